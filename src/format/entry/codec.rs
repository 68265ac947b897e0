//! Entries <-> bytes.

use super::{Classification, CustomMetadata, Entry, Extra, FileInfo, Mode, Score};
use crate::base::{RawString, Timestamp};
use crate::format::error::Result;
use crate::format::msgpack::{MapWriter, Reader, Writer};
use crate::format::summary::Summary;
use crate::format::version::Version;

impl FileInfo {
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("name").str(&self.name);
            m.key("size").i64(self.size);
            m.key("mode").u32(self.mode.0);
            m.key("mod_time").time(self.modified);
            m.key("dev").u64(self.device);
            m.key("ino").u64(self.inode);
            m.key("uid").u64(self.uid);
            m.key("gid").u64(self.gid);
            m.key("nlink").u16(self.links);
            m.key("username").str(&self.user);
            m.key("groupname").str(&self.group);
            m.key("flags").u32(self.flags);
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut info = Self::new(RawString::new(), Mode(0));
        r.map(|key, r| {
            match key {
                b"name" => info.name = r.raw()?,
                b"size" => info.size = r.i64()?,
                b"mode" => info.mode = Mode(r.u32()?),
                b"mod_time" => info.modified = r.time()?,
                b"dev" => info.device = r.u64()?,
                b"ino" => info.inode = r.u64()?,
                b"uid" => info.uid = r.u64()?,
                b"gid" => info.gid = r.u64()?,
                b"nlink" => info.links = r.u16()?,
                b"username" => info.user = r.raw()?,
                b"groupname" => info.group = r.raw()?,
                b"flags" => info.flags = r.u32()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(info)
    }
}

fn write_names(w: &mut Writer<'_>, names: &[RawString]) {
    w.list(names, |w, name| w.str(name));
}

impl Extra {
    fn write_streams(&self, m: &mut MapWriter<'_>) {
        if !self.alternate_data_streams.is_empty() {
            write_names(&mut m.key("alternate_data_streams"), &self.alternate_data_streams);
        }
        if !self.security_descriptor.is_empty() {
            m.key("security_descriptor").bin(&self.security_descriptor);
        }
        if self.file_attributes != 0 {
            m.key("file_attributes").u32(self.file_attributes);
        }
    }

    fn write_classifications(&self, m: &mut MapWriter<'_>) {
        if !self.classifications.is_empty() {
            m.key("classifications").list(&self.classifications, |w, item| item.write(w));
        }
    }

    fn write_tags(&self, m: &mut MapWriter<'_>) {
        if !self.tags.is_empty() {
            write_names(&mut m.key("tags"), &self.tags);
        }
    }
}

impl Classification {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("analyzer").str(&self.analyzer);
            match &self.classes {
                Some(classes) => write_names(&mut m.key("classes"), classes),
                None => m.key("classes").nil(),
            }
            match &self.scores {
                Some(scores) => m.key("scores").list(scores, |w, score| {
                    w.map(|m| {
                        m.key("key").str(&score.key);
                        m.key("value").f64(score.value);
                    });
                }),
                None => m.key("scores").nil(),
            }
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut item = Self::default();
        r.map(|key, r| {
            match key {
                b"analyzer" => item.analyzer = r.raw()?,
                b"classes" => item.classes = r.list_or_nil(Reader::raw)?,
                b"scores" => item.scores = r.list_or_nil(read_score)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(item)
    }
}

fn read_score(r: &mut Reader<'_>) -> Result<Score> {
    let mut score = Score::default();
    r.map(|key, r| {
        match key {
            b"key" => score.key = r.raw()?,
            b"value" => score.value = r.f64()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(score)
}

fn read_metadata(r: &mut Reader<'_>) -> Result<CustomMetadata> {
    let mut item = CustomMetadata { key: RawString::new(), value: Vec::new() };
    r.map(|key, r| {
        match key {
            b"key" => item.key = r.raw()?,
            b"value" => item.value = r.bytes()?.to_vec(),
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(item)
}

impl Entry {
    /// Appends the canonical serialization; its MAC is the entry's id.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        Writer::new(out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("parent_path").str(&self.parent);
            self.info.write(&mut m.key("file_info"));
            match &self.summary {
                Some(summary) => summary.write(&mut m.key("summary")),
                None => m.key("summary").nil(),
            }
            if !self.symlink_target.is_empty() {
                m.key("symlink_target").str(&self.symlink_target);
            }
            m.key("object").id(&self.object);
            if !self.content_type.is_empty() {
                m.key("content_type").str(&self.content_type);
            }
            if self.entropy != 0.0 {
                m.key("entropy").f64(self.entropy);
            }
            if self.chunks != 0 {
                m.key("chunks").u64(self.chunks);
            }
            let extra = self.extra.as_deref();
            if let Some(extra) = extra {
                extra.write_streams(m);
            }
            if !self.xattrs.is_empty() {
                write_names(&mut m.key("extended_attributes"), &self.xattrs);
            }
            if let Some(extra) = extra {
                extra.write_classifications(m);
            }
            if !self.metadata.is_empty() {
                m.key("custom_metadata").list(&self.metadata, |w, item| {
                    w.map(|m| {
                        m.key("key").str(&item.key);
                        m.key("value").bin(&item.value);
                    });
                });
            }
            if let Some(extra) = extra {
                extra.write_tags(m);
            }
        });
    }

    /// Encodes the canonical serialization.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(400);
        self.encode_into(&mut out);
        out
    }

    /// Decodes a serialization. Names are not checked here: see [`crate::format::path::check_entry`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut entry = Self::new(RawString::new(), FileInfo::new(RawString::new(), Mode(0)));
        entry.version = Version::NONE;
        entry.info.modified = Timestamp::ZERO;
        let mut extra = Extra::default();
        let mut r = Reader::new("entry", bytes);
        r.map(|key, r| {
            match key {
                b"version" => entry.version = r.version()?,
                b"parent_path" => entry.parent = r.raw()?,
                b"file_info" => entry.info = FileInfo::read(r)?,
                b"summary" => {
                    entry.summary = if r.nil() { None } else { Some(Box::new(Summary::read(r)?)) };
                }
                b"symlink_target" => entry.symlink_target = r.raw()?,
                b"object" => entry.object = r.id()?,
                b"content_type" => entry.content_type = r.raw()?,
                b"entropy" => entry.entropy = r.f64()?,
                b"chunks" => entry.chunks = r.u64()?,
                b"alternate_data_streams" => extra.alternate_data_streams = r.list(Reader::raw)?,
                b"security_descriptor" => extra.security_descriptor = r.bytes()?.to_vec(),
                b"file_attributes" => extra.file_attributes = r.u32()?,
                b"extended_attributes" => entry.xattrs = r.list(Reader::raw)?,
                b"classifications" => extra.classifications = r.list(Classification::read)?,
                b"custom_metadata" => entry.metadata = r.list(read_metadata)?,
                b"tags" => extra.tags = r.list(Reader::raw)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        if extra != Extra::default() {
            entry.extra = Some(Box::new(extra));
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_survives() {
        let mut entry = Entry::new("/a", FileInfo::new("b", Mode::regular(0o600)));
        entry.summary = Some(Box::default());
        entry.symlink_target = "c".into();
        entry.content_type = "text/plain".into();
        entry.entropy = 1.5;
        entry.chunks = 300;
        entry.xattrs = vec!["user.x".into()];
        entry.metadata = vec![CustomMetadata { key: "s3.key".into(), value: vec![0, 255] }];
        entry.extra = Some(Box::new(Extra {
            alternate_data_streams: vec!["s".into()],
            security_descriptor: vec![1],
            file_attributes: 2,
            classifications: vec![Classification {
                analyzer: "a".into(),
                classes: Some(vec!["c".into()]),
                scores: Some(vec![Score { key: "k".into(), value: 0.5 }]),
            }],
            tags: vec!["t".into()],
        }));
        let bytes = entry.encode();
        assert_eq!(bytes[..3], [0xde, 0, 16]);
        assert_eq!(Entry::decode(&bytes).unwrap(), entry);
        assert_eq!(entry.metadata("s3.key"), Some(&[0, 255][..]));
        assert_eq!(entry.path(), "/a/b");
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = Entry::new("/", FileInfo::new("x", Mode::regular(0o600))).encode();
        for len in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..len]).is_err(), "{len}");
        }
        let mut longer = bytes;
        longer.push(0xc0);
        assert!(Entry::decode(&longer).is_err());
    }
}
