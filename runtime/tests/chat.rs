//! Chat templates: against Jinja2's own output, what is a content in it, and what no template may take.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use quantloom::chat::{ChatTemplate, Data, Message, Rendered};
use quantloom::gguf::{Gguf, Metadata};
use quantloom::tokenizer::Tokenizer;
use serde::Deserialize;

/// Templates, their variables and what Jinja2 3.1.6 prints, set up as transformers does it; written by
/// `data/make_chat_templates.py`.
#[derive(Deserialize)]
struct Templates {
    contexts: HashMap<String, Data>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    context: String,
    /// Nothing where Jinja2 raises an error.
    expected: Option<String>,
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

fn tokenizer(name: &str) -> Tokenizer {
    let vocabulary = Gguf::open(file("data").join(name)).unwrap();
    Tokenizer::from_metadata(vocabulary.metadata()).unwrap()
}

/// The tokenizer whose BOS is `<s>` and whose EOS is `</s>`.
fn llama() -> Tokenizer {
    tokenizer("llama-spm-vocab.gguf")
}

fn template(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, String> {
    let mut metadata = Metadata::new("model.gguf");
    metadata.insert("tokenizer.chat_template", source).unwrap();
    let template = ChatTemplate::from_metadata(&metadata, tokenizer).map_err(|error| error.to_string())?;
    Ok(template.expect("there is a template"))
}

/// `source` for the variables.
fn render(source: &str, variables: &Data, tokenizer: &Tokenizer) -> Result<Rendered, String> {
    template(source, tokenizer)?.render_with(variables).map_err(|error| error.to_string())
}

#[test]
fn templates_print_what_they_print_in_jinja2() {
    let tokenizer = llama();
    let templates = fs::read_to_string(file("tests/data/chat-templates.json")).unwrap();
    let templates: Templates = serde_json::from_str(&templates).unwrap();
    let mut wrong = Vec::new();
    for Case { template, context, expected } in &templates.cases {
        let rendered = render(template, &templates.contexts[context], &tokenizer);
        match (&rendered, expected) {
            (Ok(rendered), Some(expected)) if rendered.text() == expected => {}
            (Err(error), None) => {
                assert!(error.starts_with("model.gguf: key `tokenizer.chat_template`: line "), "{error}");
                assert!(!error.contains('\n'), "{error}");
            }
            _ => {
                let rendered = rendered.map(|rendered| rendered.text().to_owned());
                wrong.push(format!("{template}\n  with {context} is    {rendered:?}\n  but should be {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), templates.cases.len(), wrong.join("\n"));
}
