//! Headers <-> bytes.

use super::types::{Class, Classification, Header, Identity, Importer, Index, KeyValue, Roots, Source};
use crate::base::{Id, RawString, Timestamp};
use crate::format::error::Result;
use crate::format::msgpack::{Reader, Writer};
use crate::format::summary::Summary;
use crate::format::version::Version;

/// Writes an array, or null for `None`.
fn write_list<T>(mut w: Writer<'_>, items: Option<&[T]>, each: impl FnMut(&mut Writer<'_>, &T)) {
    match items {
        Some(items) => w.list(items, each),
        None => w.nil(),
    }
}

impl KeyValue {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("key").str(&self.key);
            m.key("value").str(&self.value);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut item = Self::default();
        r.map(|key, r| {
            match key {
                b"key" => item.key = r.raw()?,
                b"value" => item.value = r.raw()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(item)
    }
}

impl Identity {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("identifier").bin(self.identifier);
            m.key("public_key").bin_or_nil(&self.public_key);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut identity = Self::default();
        r.map(|key, r| {
            match key {
                b"identifier" => identity.identifier = r.array_of()?,
                b"public_key" => identity.public_key = r.bytes()?.to_vec(),
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(identity)
    }
}

impl Classification {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("analyzer").str(&self.analyzer);
            write_list(m.key("classes"), self.classes.as_deref(), |w, class| {
                w.map(|m| {
                    m.key("name").str(&class.name);
                    m.key("probability").f64(class.probability);
                });
            });
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut item = Self::default();
        r.map(|key, r| {
            match key {
                b"analyzer" => item.analyzer = r.raw()?,
                b"classes" => item.classes = r.list_or_nil(read_class)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(item)
    }
}

fn read_class(r: &mut Reader<'_>) -> Result<Class> {
    let mut class = Class::default();
    r.map(|key, r| {
        match key {
            b"name" => class.name = r.raw()?,
            b"probability" => class.probability = r.f64()?,
            _ => r.skip()?,
        }
        Ok(())
    })?;
    Ok(class)
}

impl Importer {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("type").str(&self.kind);
            m.key("origin").str(&self.origin);
            m.key("directory").str(&self.directory);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut importer = Self::default();
        r.map(|key, r| {
            match key {
                b"type" => importer.kind = r.raw()?,
                b"origin" => importer.origin = r.raw()?,
                b"directory" => importer.directory = r.raw()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(importer)
    }
}

impl Roots {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("root").id(&self.root);
            m.key("xattrs").id(&self.xattrs);
            m.key("errors").id(&self.errors);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut roots = Self::default();
        r.map(|key, r| {
            match key {
                b"root" => roots.root = r.id()?,
                b"xattrs" => roots.xattrs = r.id()?,
                b"errors" => roots.errors = r.id()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(roots)
    }
}

impl Index {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            m.key("name").str(&self.name);
            m.key("type").str(&self.kind);
            m.key("value").id(&self.value);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut index = Self::default();
        r.map(|key, r| {
            match key {
                b"name" => index.name = r.raw()?,
                b"type" => index.kind = r.raw()?,
                b"value" => index.value = r.id()?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(index)
    }
}

impl Source {
    fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            self.importer.write(&mut m.key("importer"));
            write_list(m.key("context"), self.context.as_deref(), |w, item| item.write(w));
            self.root.write(&mut m.key("root"));
            write_list(m.key("indexes"), self.indexes.as_deref(), |w, item| item.write(w));
            self.summary.write(&mut m.key("summary"));
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut source = Self::default();
        r.map(|key, r| {
            match key {
                b"importer" => source.importer = Importer::read(r)?,
                b"context" => source.context = r.list_or_nil(KeyValue::read)?,
                b"root" => source.root = Roots::read(r)?,
                b"indexes" => source.indexes = r.list_or_nil(Index::read)?,
                b"summary" => source.summary = Summary::read(r)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(source)
    }
}

impl Header {
    /// Encodes the canonical serialization, which a signature covers.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        Writer::new(&mut out).map(|m| {
            m.key("version").u32(self.version.0);
            m.key("identifier").id(&self.identifier);
            m.key("timestamp").time(self.timestamp);
            m.key("duration").i64(self.duration);
            self.identity.write(&mut m.key("identity"));
            m.key("name").str(&self.name);
            m.key("category").str(&self.category);
            m.key("environment").str(&self.environment);
            m.key("perimeter").str(&self.perimeter);
            m.key("job").str(&self.job);
            m.key("replicas").u32(self.replicas);
            if let Some(dataset) = &self.dataset {
                m.key("dataset").str(dataset);
                write_list(m.key("data_classes"), self.data_classes.as_deref(), |w, item| w.str(item));
            }
            write_list(m.key("classifications"), self.classifications.as_deref(), |w, item| item.write(w));
            write_list(m.key("tags"), self.tags.as_deref(), |w, item| w.str(item));
            write_list(m.key("context"), self.context.as_deref(), |w, item| item.write(w));
            write_list(m.key("sources"), self.sources.as_deref(), |w, item| item.write(w));
        });
        out
    }

    /// Decodes a serialization. That `identifier` equals the blob's id is for the caller to check.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut header = Self::new(Id::ZERO, Timestamp::ZERO);
        header.version = Version::NONE;
        header.name = RawString::new();
        header.replicas = 0;
        header.dataset = None;
        header.data_classes = None;
        let mut r = Reader::new("snapshot header", bytes);
        r.map(|key, r| {
            match key {
                b"version" => header.version = r.version()?,
                b"identifier" => header.identifier = r.id()?,
                b"timestamp" => header.timestamp = r.time()?,
                b"duration" => header.duration = r.i64()?,
                b"identity" => header.identity = Identity::read(r)?,
                b"name" => header.name = r.raw()?,
                b"category" => header.category = r.raw()?,
                b"environment" => header.environment = r.raw()?,
                b"perimeter" => header.perimeter = r.raw()?,
                b"job" => header.job = r.raw()?,
                b"replicas" => header.replicas = r.u32()?,
                b"dataset" => header.dataset = Some(r.raw()?),
                b"data_classes" => {
                    header.data_classes = r.list_or_nil(Reader::raw)?;
                    // The two came together; data classes alone must not be lost.
                    header.dataset.get_or_insert_default();
                }
                b"classifications" => header.classifications = r.list_or_nil(Classification::read)?,
                b"tags" => header.tags = r.list_or_nil(Reader::raw)?,
                b"context" => header.context = r.list_or_nil(KeyValue::read)?,
                b"sources" => header.sources = r.list_or_nil(Source::read)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        r.finish()?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let mut header = Header::new(Id([1; 32]), Timestamp { secs: 5, nanos: 6 });
        header.identity = Identity { identifier: [2; 16], public_key: vec![3; 32] };
        header.data_classes = Some(vec!["c".into()]);
        header.classifications = Some(vec![Classification {
            analyzer: "a".into(),
            classes: Some(vec![Class { name: "n".into(), probability: 0.25 }]),
        }]);
        header.tags = Some(vec!["t".into()]);
        header.context = Some(vec![KeyValue { key: "Hostname".into(), value: "h".into() }]);
        header.sources =
            Some(vec![Source { indexes: Some(vec![Index::btree(INDEX, Id([4; 32]))]), ..Source::default() }]);
        header
    }

    const INDEX: &str = crate::format::snapshot::INDEX_DIRPACK;

    #[test]
    fn headers_of_17_and_15_keys_round_trip() {
        let mut header = header();
        let bytes = header.encode();
        assert_eq!(bytes[..3], [0xde, 0, 17]);
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        header.dataset = None;
        header.data_classes = None;
        let bytes = header.encode();
        assert_eq!(bytes[0], 0x8f);
        let decoded = Header::decode(&bytes).unwrap();
        assert_eq!(decoded, header);
        assert_eq!(decoded.source().unwrap().index(INDEX), Some(Id([4; 32])));
        assert_eq!(decoded.context("Hostname").unwrap(), &"h");
        assert!(decoded.tags() == ["t"]);
    }

    #[test]
    fn null_arrays_stay_null() {
        let mut header = header();
        header.tags = None;
        header.classifications = None;
        header.context = None;
        header.data_classes = None;
        header.sources = Some(vec![Source::default()]);
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        header.sources = None;
        assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        assert!(header.sources().is_empty());
    }
}
