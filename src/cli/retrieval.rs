//! Cold storage on the command line: what must be retrieved is told, asked for and awaited before a command reads.

use std::time::Duration;

use super::context::Context;
use super::error::{CommandError, Exit};
use super::passphrase::Chain;
use super::places::Place;
use super::quantity;
use super::stores::{self, Opened};
use crate::connector::{Order, Readiness, RetrievalTier};
use crate::connectors::archive_readiness;
use crate::snapshot::retrieval::{Patience, Plan, Planner, Target};
use crate::snapshot::{SnapshotInfo, Versions};
use crate::store::{Error, Repository};
use crate::ui::units;

/// How fast a retrieval is to be.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum TierChoice {
    /// Hours
    #[default]
    Standard,
    /// Up to two days, for the least money
    Bulk,
    /// Minutes, where the storage class offers it
    Expedited,
}

impl TierChoice {
    /// Returns how long it takes, for people.
    fn takes(self) -> &'static str {
        match self {
            Self::Standard => "hours",
            Self::Bulk => "up to two days",
            Self::Expedited => "minutes",
        }
    }
}

impl From<TierChoice> for RetrievalTier {
    fn from(choice: TierChoice) -> Self {
        match choice {
            TierChoice::Standard => Self::Standard,
            TierChoice::Bulk => Self::Bulk,
            TierChoice::Expedited => Self::Expedited,
        }
    }
}

/// The flags of commands that may have to wait for cold storage.
#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RetrievalArgs {
    /// How fast a retrieval from cold storage is to be: standard, bulk or expedited
    #[arg(long, value_name = "TIER", value_enum, default_value = "standard", help_heading = "Cold storage")]
    retrieval_tier: TierChoice,
    /// For how many days what was retrieved stays readable
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=365), help_heading = "Cold storage")]
    retrieval_days: u32,
    /// The longest pause between two looks whether a retrieval is done
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = quantity::time, help_heading = "Cold storage")]
    retrieval_poll: Duration,
    /// Ask for the retrieval and end: the same command goes on once it is done
    #[arg(long, help_heading = "Cold storage")]
    no_wait: bool,
}

/// The same for commands that ask for a retrieval only when told to.
#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RetrieveArgs {
    /// Retrieve what lies in cold storage instead of failing
    #[arg(long, help_heading = "Cold storage")]
    retrieve: bool,
    #[command(flatten)]
    how: RetrievalArgs,
}

impl RetrieveArgs {
    /// Opens the store that the command works on, and tells what is wrong with it.
    pub(crate) fn open_main(&self, context: &Context) -> Result<Opened, CommandError> {
        open_main(context, self.how, self.asks())
    }

    /// Opens a store as [`stores::open`] does: an archive in cold storage once it was retrieved.
    pub(crate) fn open_store(
        &self,
        context: &Context,
        place: &Place,
        chain: &Chain,
    ) -> Result<Opened, CommandError> {
        open_store(context, place, chain, self.how, self.asks())
    }

    /// Returns the access of a command to one store.
    pub(crate) fn open<'a>(
        &self,
        context: &'a Context,
        repository: &'a Repository,
    ) -> Result<Access<'a>, CommandError> {
        Access::open(context, repository, self.how, self.asks())
    }

    /// Returns whether what lies in cold storage is to be retrieved and awaited.
    pub(crate) fn retrieves(&self) -> bool {
        self.retrieve
    }

    /// Returns whether retrievals are asked for.
    fn asks(&self) -> bool {
        self.retrieve || self.how.no_wait
    }
}

impl RetrievalArgs {
    /// Returns how often it is asked whether a retrieval is done.
    fn patience(&self) -> Patience {
        let longest = self.retrieval_poll;
        Patience { first: FIRST_PAUSE.min(longest), longest }
    }

    /// Opens the store that the command works on, and tells what is wrong with it.
    pub(crate) fn open_main(&self, context: &Context) -> Result<Opened, CommandError> {
        open_main(context, *self, true)
    }

    /// Returns the access of a command that retrieves without being told to.
    pub(crate) fn open<'a>(
        &self,
        context: &'a Context,
        repository: &'a Repository,
    ) -> Result<Access<'a>, CommandError> {
        Access::open(context, repository, *self, true)
    }
}

fn open_main(context: &Context, args: RetrievalArgs, asks: bool) -> Result<Opened, CommandError> {
    let place = context.main_store()?;
    let opened = open_store(context, &place, &context.store_passphrases(&place, None), args, asks)?;
    stores::tell_warnings(context, &opened.repository);
    Ok(opened)
}

/// Opens a store. An archive is one object, which may lie in cold storage as a whole: nothing of it can be read then,
/// and whether that is so is asked only when it could not be opened.
fn open_store(
    context: &Context,
    place: &Place,
    chain: &Chain,
    args: RetrievalArgs,
    asks: bool,
) -> Result<Opened, CommandError> {
    let failed = match stores::open(context, place, chain.clone()) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    let ask =
        |order: Option<&Order>| archive_readiness(&place.location, &place.options, &context.limits(), order);
    let Ok(Some(mut state)) = ask(None) else { return Err(failed) };
    if state.is_readable() {
        return Err(failed);
    }
    if !asks {
        return Err(CommandError::failed(format!("{place} must first be retrieved from cold storage"))
            .hint("the same command with -retrieve asks for it and waits; with -no-wait it asks and ends"));
    }
    let output = &context.output;
    output.notice(format!("{place} must be retrieved from cold storage"));
    if state == Readiness::Archived {
        let order = Order { tier: args.retrieval_tier.into(), days: args.retrieval_days };
        state = ask(Some(&order))?.unwrap_or(state);
        let days = units::counted(u64::from(order.days), "day");
        let wait = args.retrieval_tier.takes();
        output.notice(format!("its retrieval was requested, for {days}; it takes {wait}"));
    } else {
        output.notice("its retrieval is under way");
    }
    if args.no_wait && !state.is_readable() {
        let wait = args.retrieval_tier.takes();
        return Err(CommandError::new(
            Exit::Later,
            format!("nothing was read yet: {place} is being retrieved"),
        )
        .hint(format!(
            "run the same command again in {wait}: it goes on, or says that it is still missing"
        )));
    }
    let patience = args.patience();
    patience.until(&context.cancel, &mut || Ok(ask(None)?.is_none_or(Readiness::is_readable)))?;
    stores::open(context, place, chain.clone())
}

/// Makes the packfiles of one store readable, as far as a command needs them.
#[derive(Debug)]
pub(crate) struct Access<'a> {
    /// Nothing where no packfile is in cold storage.
    planner: Option<Planner<'a>>,
    context: &'a Context,
    location: String,
    args: RetrievalArgs,
    /// Whether retrievals are asked for.
    asks: bool,
}

/// Plans are made again when metadata came to light; that ends by itself, but not by promise.
const ROUNDS: usize = 16;
/// The first pause between two looks, where the longest is no shorter.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

impl<'a> Access<'a> {
    fn open(
        context: &'a Context,
        repository: &'a Repository,
        args: RetrievalArgs,
        asks: bool,
    ) -> Result<Self, CommandError> {
        let planner = Planner::open(repository)?;
        Ok(Self { planner, context, location: repository.storage().location(), args, asks })
    }

    /// Returns whether some packfile is in cold storage.
    pub(crate) fn is_cold(&self) -> bool {
        self.planner.is_some()
    }

    /// Makes metadata readable: nothing to do in stores written here.
    pub(crate) fn metadata(&self) -> Result<(), CommandError> {
        self.until_ready("metadata", &|planner| planner.metadata(&self.context.cancel))
    }

    /// Makes the contents of snapshots, or of parts of them, readable.
    pub(crate) fn contents(&self, targets: &[Target]) -> Result<(), CommandError> {
        self.until_ready("contents", &|planner| planner.contents(targets, &self.context.cancel))
    }

    /// Makes every packfile readable.
    pub(crate) fn everything(&self) -> Result<(), CommandError> {
        self.until_ready("contents", &|planner| planner.everything(&self.context.cancel))
    }

    fn until_ready(
        &self,
        what: &str,
        plan: &dyn Fn(&Planner<'_>) -> Result<Plan, Error>,
    ) -> Result<(), CommandError> {
        let Some(planner) = &self.planner else { return Ok(()) };
        for _ in 0..ROUNDS {
            let plan = plan(planner)?;
            if plan.is_empty() {
                return Ok(());
            }
            self.retrieve(planner, &plan, what)?;
        }
        Err(CommandError::failed("packfiles go back to cold storage faster than they are read")
            .hint("-retrieval-days N keeps them readable for longer"))
    }

    /// Asks for what is planned, and waits for it.
    fn retrieve(&self, planner: &Planner<'_>, plan: &Plan, what: &str) -> Result<(), CommandError> {
        let sum = format!("{} ({})", units::counted(plan.count(), "packfile"), units::bytes(plan.bytes()));
        if !self.asks {
            return Err(CommandError::failed(format!(
                "{sum} of {what} that this needs must first be retrieved from the cold storage of {}",
                self.location
            ))
            .hint(
                "the same command with -retrieve asks for them and waits; with -no-wait it asks and ends",
            ));
        }
        let output = &self.context.output;
        let ready = match plan.ready_count {
            0 => String::new(),
            count => format!("; {} can be read already", units::count(count)),
        };
        output.notice(format!("{sum} of {what} must be retrieved from cold storage{ready}"));
        let tier = self.args.retrieval_tier;
        let order = Order { tier: tier.into(), days: self.args.retrieval_days };
        planner.request(plan, &order, &self.context.cancel)?;
        let wait = tier.takes();
        match plan.unrequested_count() {
            0 => output.notice("their retrieval is under way"),
            count => output.notice(format!(
                "the retrieval of {} was requested, for {}; it takes {wait}",
                units::counted(count, "packfile"),
                units::counted(u64::from(order.days), "day")
            )),
        }
        if self.args.no_wait {
            return Err(CommandError::new(
                Exit::Later,
                format!("nothing was read yet: {sum} of {what} are being retrieved"),
            )
            .hint(format!(
                "run the same command again in {wait}: it goes on, or says what is still missing"
            )));
        }
        let patience = self.args.patience();
        let mut tell = |count: u64| {
            output.notice(format!("{} of {sum} can be read", units::count(count)));
        };
        Ok(planner.wait(plan, &order, &patience, &self.context.cancel, &mut tell)?)
    }
}

/// Says what a command reads of snapshots that were chosen.
pub(crate) fn targets<'i>(
    chosen: impl IntoIterator<Item = (&'i SnapshotInfo, Option<&'i [u8]>)>,
    versions: Versions,
) -> Vec<Target> {
    let target = |(info, path): (&SnapshotInfo, Option<&[u8]>)| Target {
        info: info.clone(),
        path: path.map(<[u8]>::to_vec),
        old_versions: versions != Versions::Latest,
    };
    chosen.into_iter().map(target).collect()
}
