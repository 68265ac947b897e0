//! The XML of answers as a small tree.
//!
//! Answers come from outside: depth and number of elements are bounded, document types are refused, and only
//! the five predefined entities and character references are known.

use quick_xml::Reader;
use quick_xml::events::Event;

/// The deepest nesting accepted; S3 needs five.
const MAX_DEPTH: usize = 16;
/// The most elements accepted; a page of 1000 versions with owners needs fewer than 20,000.
const MAX_ELEMENTS: usize = 200_000;

/// An element with its text and its children.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Element {
    /// The name without a namespace prefix.
    pub(in super::super) name: String,
    /// All text directly inside, entities resolved.
    pub(in super::super) text: String,
    /// The elements inside, in order.
    pub(in super::super) children: Vec<Element>,
}

impl Element {
    /// Parses a document and returns its root element; the error says what is wrong.
    pub(in super::super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "the answer is not UTF-8")?;
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut count = 0;
        loop {
            match reader.read_event().map_err(|e| format!("the answer is not XML: {e}"))? {
                Event::Start(start) => {
                    count += 1;
                    if open.len() >= MAX_DEPTH || count > MAX_ELEMENTS {
                        return Err("the answer's XML is too deep or too long".into());
                    }
                    open.push(Self { name: local_name(start.local_name().as_ref()), ..Self::default() });
                }
                Event::Empty(empty) => {
                    let element = Self { name: local_name(empty.local_name().as_ref()), ..Self::default() };
                    attach(&mut open, &mut root, element);
                }
                Event::End(_) => {
                    let element = open.pop().ok_or("the answer's XML ends an element that never began")?;
                    attach(&mut open, &mut root, element);
                }
                Event::Text(text) => push(&mut open, &text),
                Event::CData(text) => push(&mut open, &text),
                Event::GeneralRef(reference) => {
                    let c = match reference.resolve_char_ref() {
                        Ok(Some(c)) => c,
                        Ok(None) => {
                            predefined(&reference).ok_or("the answer's XML holds an unknown entity")?
                        }
                        Err(e) => return Err(format!("the answer is not XML: {e}")),
                    };
                    push(&mut open, c.encode_utf8(&mut [0; 4]));
                }
                Event::DocType(_) => return Err("the answer's XML declares a document type".into()),
                Event::Eof => break,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            }
        }
        if !open.is_empty() {
            return Err("the answer's XML is cut off".into());
        }
        root.ok_or_else(|| "the answer is empty".into())
    }

    /// Returns the first child of a name.
    pub(in super::super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the text of the first child of a name.
    pub(in super::super) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

fn local_name(name: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(name.as_ref()).into_owned()
}

fn push(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn attach(open: &mut [Element], root: &mut Option<Element>, element: Element) {
    match open.last_mut() {
        Some(parent) => parent.children.push(element),
        None => *root = Some(element),
    }
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => return None,
    })
}

/// Escapes text for a request's XML. Fails on what XML 1.0 cannot carry.
pub(super) fn escape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            c if is_xml(c) => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

/// Returns whether XML 1.0 can carry a character at all.
pub(super) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_text_and_entities() {
        let text = b"<?xml version=\"1.0\"?><s:A xmlns:s=\"u\"><B>x &amp; &#x41;&lt;</B><B/><C><![CDATA[<&>]]></C></s:A>";
        let root = Element::parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.children.len()), ("A", 3));
        assert_eq!(root.text_of("B"), Some("x & A<"));
        assert_eq!(root.text_of("C"), Some("<&>"));
    }

    #[test]
    fn hostile_documents_are_errors() {
        let deep = "<a>".repeat(100_000);
        let wide = format!("<a>{}</a>", "<b></b>".repeat(300_000));
        let cases = [
            "",
            "<a>",
            "</a>",
            "<a>&x;</a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a>&#0;</a>",
            &deep,
            &wide,
        ];
        for text in cases {
            assert!(Element::parse(text.as_bytes()).is_err(), "{text:.40}");
        }
        assert!(Element::parse(b"<a>\xff</a>").is_err());
    }

    #[test]
    fn escapes_what_xml_can_carry() {
        let text = "a<b>&\"c\r\n\u{1F600}";
        let document = format!("<a>{}</a>", escape(text).unwrap());
        assert_eq!(Element::parse(document.as_bytes()).unwrap().text, text);
        assert_eq!(escape("\u{1}"), None);
    }
}
