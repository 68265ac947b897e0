//! Listings: page by page, keys exactly as they are.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use percent_encoding::percent_decode_str;
use rusty_s3::Method;

use super::failure::{Again, Failure, Result};
use super::object::{root, unquote};
use super::send::{Client, Payload, Request};
use super::xml::{Element, is_xml};

/// An object in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Listed {
    /// The exact key.
    pub(in super::super) key: Vec<u8>,
    /// The size in bytes.
    pub(in super::super) size: u64,
    /// The ETag without quotes.
    pub(in super::super) etag: String,
    /// The time as the listing writes it.
    pub(in super::super) modified: String,
    /// The storage class; empty where the server tells none.
    pub(in super::super) class: String,
}

impl Listed {
    /// Returns the time of the last change, if it can be read.
    pub(in super::super) fn time(&self) -> Option<jiff::Timestamp> {
        self.modified.parse().ok()
    }
}

struct Page {
    objects: Vec<Listed>,
    next: Option<Next>,
}

/// From where a listing goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Next {
    /// What the server gave, opaque.
    Token(String),
    /// The last key seen: servers that know the first version of the operation only answer the second by that.
    After(String),
}

impl Client {
    /// Calls `each` for every object whose key begins with `prefix`, in the server's order, until it breaks.
    /// `most` bounds a page. Memory holds one page.
    ///
    /// A server that answers by the first version of the operation is asked by that one from then on. Fails with
    /// `Protocol` when the listing cannot be trusted: truncated without a way on, going in circles, or with a key that
    /// may not be what is stored.
    pub(in super::super) fn list(
        &self,
        prefix: &[u8],
        most: Option<u32>,
        each: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<()> {
        let target = self.target(Some(prefix));
        let text = std::str::from_utf8(prefix)
            .map_err(|_| Failure::protocol("list", &target, "the prefix is not UTF-8"))?;
        let mut place = Place { next: None, first: None, last: None, ascending: true };
        let mut circle = Circle::default();
        loop {
            let mut request =
                Request::new("list", Method::Get, None).query("encoding-type", "url").query("prefix", text);
            if let Some(most) = most {
                request = request.query("max-keys", most.to_string());
            }
            request = match &place.next {
                None => request.query("list-type", "2"),
                Some(Next::Token(token)) => {
                    request.query("list-type", "2").query("continuation-token", token.as_str())
                }
                Some(Next::After(key)) => request.query("marker", key.as_str()),
            };
            let page = self.run(&request, Payload::None, &mut |response| {
                let page = page(&root(response, "list", &target, "ListBucketResult")?, &target)?;
                if place.is_behind(&page) {
                    // A stale answer of a cache on the way, perhaps: the next one may be right.
                    let mut failure = repeats(&target);
                    failure.again = Again::Soon;
                    return Err(failure);
                }
                Ok(page)
            })?;
            place.first = page.objects.first().map(|object| object.key.clone());
            for object in page.objects {
                if !object.key.starts_with(prefix) {
                    return Err(Failure::protocol("list", &target, "the listing leaves the prefix"));
                }
                match place.last.as_ref().map(|last| object.key.cmp(last)) {
                    Some(Ordering::Equal) => return Err(repeats(&target)),
                    Some(Ordering::Less) => place.ascending = false,
                    _ => {}
                }
                place.last = Some(object.key.clone());
                if each(object).is_break() {
                    return Ok(());
                }
            }
            let Some(next) = page.next else { return Ok(()) };
            if circle.closes(&next) {
                return Err(repeats(&target));
            }
            place.next = Some(next);
        }
    }
}

/// How far a listing has come.
struct Place {
    next: Option<Next>,
    /// The first key of the page before.
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
    /// Whether keys have come in order so far. There are servers that list in none.
    ascending: bool,
}

impl Place {
    /// Returns whether a page does not lead on from here.
    fn is_behind(&self, page: &Page) -> bool {
        if page.next.is_some() && page.next == self.next {
            return true;
        }
        let (Some(last), Some(first)) = (&self.last, page.objects.first()) else { return false };
        if self.ascending { first.key <= *last } else { Some(&first.key) == self.first.as_ref() }
    }
}

/// Notices that a listing goes in circles, however long they are, by remembering one place of it (R. P. Brent's way).
#[derive(Debug)]
pub(super) struct Circle<T> {
    mark: Option<T>,
    steps: u64,
    most: u64,
}

impl<T> Default for Circle<T> {
    fn default() -> Self {
        Self { mark: None, steps: 0, most: 1 }
    }
}

impl<T: PartialEq + Clone> Circle<T> {
    /// Returns whether a place was seen before. A circle is noticed before it was gone round three times.
    pub(super) fn closes(&mut self, place: &T) -> bool {
        if self.mark.as_ref() == Some(place) {
            return true;
        }
        self.steps += 1;
        if self.steps == self.most {
            (self.mark, self.steps, self.most) = (Some(place.clone()), 0, self.most.saturating_mul(2));
        }
        false
    }
}

fn repeats(target: &str) -> Box<Failure> {
    Failure::protocol("list", target, "the listing repeats itself")
}

fn page(root: &Element, target: &str) -> Result<Page> {
    let wrong = |what: &str| Failure::protocol("list", target, what);
    let encoded = root.text_of("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
    let objects = root
        .children
        .iter()
        .filter(|child| child.name == "Contents")
        .map(|contents| object(contents, encoded).map_err(|what| wrong(&what)))
        .collect::<Result<Vec<_>>>()?;
    let truncated = root.text_of("IsTruncated").is_some_and(|text| text.trim() == "true");
    if !truncated {
        return Ok(Page { objects, next: None });
    }
    let token = root.text_of("NextContinuationToken").filter(|token| !token.is_empty());
    // Every answer of the first version names the key it begins behind, and none of the second does.
    let is_first_version = root.child("Marker").is_some() && root.child("KeyCount").is_none();
    let last = objects.last().filter(|_| is_first_version).map(|object| object.key.clone());
    let next = match (token, last.map(String::from_utf8)) {
        (Some(token), _) => Next::Token(token.to_owned()),
        (None, Some(Ok(key))) => Next::After(key),
        (None, _) => return Err(wrong("the listing is truncated and tells no way on")),
    };
    Ok(Page { objects, next: Some(next) })
}

fn object(contents: &Element, encoded: bool) -> std::result::Result<Listed, String> {
    let text = |name: &str| contents.text_of(name).unwrap_or_default();
    let key = contents.text_of("Key").ok_or("the listing holds an object without a key")?;
    let key = decode_key(key, encoded)?;
    if key.is_empty() {
        return Err("the listing holds an empty key".into());
    }
    let size = text("Size").trim().parse().map_err(|_| "the listing holds an object without a size")?;
    Ok(Listed {
        key,
        size,
        etag: unquote(text("ETag")).to_owned(),
        modified: text("LastModified").trim().to_owned(),
        class: text("StorageClass").trim().to_owned(),
    })
}

/// Decodes a key of a listing. `encoded` tells whether the server said that it encoded it.
pub(super) fn decode_key(text: &str, encoded: bool) -> std::result::Result<Vec<u8>, String> {
    if encoded {
        return Ok(percent_decode_str(&text.replace('+', " ")).collect());
    }
    // Plain XML cannot carry these: what is read may not be the key that is stored.
    let odd = |c: char| c == '\r' || c == '\n' || c == '\u{fffd}' || !is_xml(c);
    if text.contains(odd) {
        return Err(
            "a key holds characters that the listing cannot carry, and the server does not encode keys"
                .into(),
        );
    }
    Ok(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_only_when_the_answer_says_so() {
        assert_eq!(decode_key("a+b%2Bc%2F%00", true).unwrap(), b"a b+c/\0");
        assert_eq!(decode_key("a+b%2B", false).unwrap(), b"a+b%2B");
        assert!(decode_key("a\u{1}", false).is_err());
        assert!(decode_key("a\rb", false).is_err());
    }

    #[test]
    fn pages_that_cannot_be_trusted_are_refused() {
        let parse =
            |text: &str| page(&Element::parse(text.as_bytes()).unwrap(), "t").map(|p| p.objects.len());
        let object = "<Contents><Key>a</Key><Size>1</Size></Contents>";
        assert_eq!(parse(&format!("<R><IsTruncated>false</IsTruncated>{object}</R>")).unwrap(), 1);
        assert!(parse("<R><IsTruncated>true</IsTruncated></R>").is_err());
        assert!(parse(&format!("<R><IsTruncated>true</IsTruncated>{object}</R>")).is_err());
        assert!(parse("<R><Marker/><IsTruncated>true</IsTruncated></R>").is_err());
        assert_eq!(parse(&format!("<R><Marker/><IsTruncated>true</IsTruncated>{object}</R>")).unwrap(), 1);
        assert!(parse("<R><Contents><Key></Key><Size>1</Size></Contents></R>").is_err());
        assert!(parse("<R><Contents><Key>a</Key></Contents></R>").is_err());
    }

    #[test]
    fn circles_of_every_length_are_noticed() {
        for (straight, round) in (0..20).flat_map(|straight| (1..20).map(move |round| (straight, round))) {
            let mut circle = Circle::default();
            let mut places = (0..straight).chain((straight..straight + round).cycle());
            let steps = places.by_ref().take_while(|place| !circle.closes(place)).count();
            assert!(steps <= 3 * (straight + round), "{straight} {round}: {steps}");
        }
        let mut straight = Circle::default();
        assert!(!(0..10_000).any(|place| straight.closes(&place)));
    }
}
