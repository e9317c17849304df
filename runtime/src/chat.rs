//! A conversation as the text that a model was trained to continue, by the template in its file.
//!
//! Templates are written for Hugging Face's `apply_chat_template`, which is Jinja2 with some settings and
//! functions; these are offered here too, and what they print is what they print there.
//! Source: <https://huggingface.co/docs/transformers/chat_templating_writing>.
//!
//! # Contents
//!
//! A rendered conversation mixes the template's own text, which may spell control tokens such as `<|im_end|>`, with
//! what somebody said. [`Rendered`] knows for each byte which it is, so that
//! [`Tokenizer::encode_with_contents`](crate::tokenizer::Tokenizer::encode_with_contents) can take control tokens
//! from the template alone. Contents are the texts of messages, their names and all else that the caller passes in:
//! tools, documents, variables; also what the template makes of them by slicing, `trim`, `tojson`, `~` and so on, the
//! names of arguments that `**` takes from them, and the padding of a format that they had a part in.
//! The template's own are its text, its string literals, BOS and EOS, numbers, and the names of well-known roles
//! (`system`, `user`, `assistant`, `tool` and the like), of which templates make control tokens such as `<|user|>`.
//!
//! # Bounds
//!
//! A template comes with a model and may ask for anything. Whatever it does is paid for before it is done: a
//! rendering takes at most some millions of steps, 48 MiB of text and values and 256 bytes more for each byte of
//! the conversation, and a fixed depth of blocks, calls and values inside each other. The rendered text may have
//! 512 KiB and 64 bytes more for each byte of the conversation. A template that asks for more is an [`Error`] that
//! names its line. The template itself may have 512 KiB.
//!
//! # How it works
//!
//! There are engines for Jinja as crates. None knows where a byte of its output came from, and none can bound what its
//! operators make, so that this one is written here.
//!
//! The template is cut into tokens (`lexer`), made a tree (`parser`, `ast`), and the tree is walked (`interpreter`,
//! `expressions`) with values (`value`) whose texts know their origin (`text`). Python's operators, methods, filters,
//! tests and formats are in files of these names; `budget` keeps the accounts.

mod arguments;
mod ast;
mod budget;
mod data;
mod dates;
mod expressions;
mod filters;
mod format;
mod interpreter;
mod lexer;
mod methods;
mod operators;
mod parser;
mod predicates;
mod print;
mod text;
mod text_methods;
mod value;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::gguf::{self, Metadata};
use crate::tokenizer::Tokenizer;

use budget::Budget;
pub use budget::TemplateError;
pub use data::Data;
use interpreter::Interpreter;
use value::Value;

const KEY: &str = "tokenizer.chat_template";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose it is: `system`, `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

/// A chat template that can't be used. Its text is one line: the file, the key, what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template is not a string.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
    /// The template is not good Jinja, takes too much, or refuses the conversation.
    #[error("{}: key `{KEY}`: {source}; run with --raw to do without it", path.display())]
    Template {
        /// The model file.
        path: PathBuf,
        /// What is wrong, and in which line of the template.
        source: TemplateError,
    },
}

/// The chat template of one model.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    template: ast::Block,
    bos: String,
    eos: String,
}

/// A conversation as text, and which parts of it are contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    contents: Vec<Range<usize>>,
}

impl Rendered {
    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The byte ranges of the text that come from contents: in order, apart and none empty.
    pub fn contents(&self) -> &[Range<usize>] {
        &self.contents
    }

    /// Whether the text begins with `start` by the template's own doing.
    pub fn starts_with(&self, start: &str) -> bool {
        let own = self.contents.first().map_or(self.text.len(), |content| content.start);
        self.text[..own].starts_with(start)
    }
}

impl ChatTemplate {
    /// The template that the key `tokenizer.chat_template` holds; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Where the key is not a string or not a template.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let Some(source) = metadata.str(KEY)? else { return Ok(None) };
        let text =
            |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default().to_owned();
        let path = PathBuf::from(metadata.path());
        match parser::parse(source) {
            Ok(template) => {
                Ok(Some(Self { path, template, bos: text(tokenizer.bos()), eos: text(tokenizer.eos()) }))
            }
            Err(source) => Err(Error::Template { path, source }),
        }
    }

    /// The text of the conversation, up to where the assistant's next message begins.
    ///
    /// It holds the texts of special tokens, and possibly of BOS.
    ///
    /// # Errors
    ///
    /// Where the template fails, as some do on purpose for an order of roles that they don't know.
    pub fn render(&self, messages: &[Message]) -> Result<Rendered, Error> {
        let text = |name: &str, text: &str| (name.to_owned(), Data::from(text));
        let message = |Message { role, content }: &Message| {
            Data::object([text("role", role), text("content", content)])
        };
        let messages = Data::list(messages.iter().map(message));
        self.render_with(&Data::object([("messages".to_owned(), messages)]))
    }

    /// The text of a conversation of any form: the members of `variables`, an object, are the variables of the
    /// template, `messages` among them.
    ///
    /// `tools` and `documents` are none and `add_generation_prompt` is true unless the object says otherwise, and
    /// it may replace `bos_token` and `eos_token`, which then are contents, too.
    ///
    /// # Errors
    ///
    /// Where the template fails.
    pub fn render_with(&self, variables: &Data) -> Result<Rendered, Error> {
        let budget = Budget::new(variables.size());
        let rendered = self
            .variables(variables, &budget)
            .and_then(|variables| Interpreter::new(&budget, variables).render(&self.template));
        match rendered {
            Ok((text, contents)) => Ok(Rendered { text, contents }),
            Err(source) => Err(Error::Template { path: self.path.clone(), source }),
        }
    }

    fn variables(&self, given: &Data, budget: &Budget) -> budget::Result<HashMap<Arc<str>, Value>> {
        // Templates ask whether tools and documents are none, not whether they are defined.
        let mut variables = HashMap::from([
            ("add_generation_prompt".into(), Value::Bool(true)),
            ("bos_token".into(), Value::own(self.bos.as_str())),
            ("eos_token".into(), Value::own(self.eos.as_str())),
            ("tools".into(), Value::None),
            ("documents".into(), Value::None),
        ]);
        for (name, value) in given.members().unwrap_or_default() {
            let value = if name == "messages" { value.messages(budget)? } else { value.value(budget)? };
            variables.insert(name.as_str().into(), value);
        }
        Ok(variables)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::gguf::Gguf;

    /// The template of TinyLlama and of Zephyr.
    const ZEPHYR: &str = "{% for message in messages %}\n\
        {% if message['role'] == 'user' %}\n\
        {{ '<|user|>\n' + message['content'] + eos_token }}\n\
        {% elif message['role'] == 'system' %}\n\
        {{ '<|system|>\n' + message['content'] + eos_token }}\n\
        {% elif message['role'] == 'assistant' %}\n\
        {{ '<|assistant|>\n'  + message['content'] + eos_token }}\n\
        {% endif %}\n\
        {% if loop.last and add_generation_prompt %}\n\
        {{ '<|assistant|>' }}\n\
        {% endif %}\n\
        {% endfor %}";

    fn messages(roles_and_contents: &[(&str, &str)]) -> Vec<Message> {
        let message =
            |&(role, content): &(&str, &str)| Message { role: role.into(), content: content.into() };
        roles_and_contents.iter().map(message).collect()
    }

    /// Renders `source` for one message, with BOS `<s>` and EOS `</s>`.
    fn render(source: &str) -> Result<String, Error> {
        let mut metadata = Metadata::new("model.gguf");
        metadata.insert(KEY, source)?;
        let vocabulary = Gguf::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/llama-spm-vocab.gguf"))?;
        let tokenizer = Tokenizer::from_metadata(vocabulary.metadata()).expect("the vocabulary is good");
        let template = ChatTemplate::from_metadata(&metadata, &tokenizer)?.expect("there is a template");
        template.render(&messages(&[("user", "Hi there")])).map(|rendered| rendered.text)
    }

    #[test]
    fn smollm2_speaks_chatml_with_a_default_system_message() {
        let file = Gguf::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/smollm2-bpe-vocab.gguf")).unwrap();
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let template = ChatTemplate::from_metadata(file.metadata(), &tokenizer).unwrap().unwrap();
        assert_eq!(
            template.render(&messages(&[("user", "Hi")])).unwrap().text(),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let conversation = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")];
        assert_eq!(
            template.render(&messages(&conversation)).unwrap().text(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn templates_find_what_hugging_face_gives_them() {
        let cases = [
            (ZEPHYR, "<|user|>\nHi there</s>\n<|assistant|>\n"),
            ("{{ bos_token }}{{ messages[0].content }}", "<s>Hi there"),
            ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
            ("{{ messages[0]['content'].split(' ')[0].upper().strip() }}", "HI"),
            ("{% if tools is none and documents is none %}none{% endif %}", "none"),
            ("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}", "2"),
            ("{{ messages[0].content.replace('Hi', 'Ho').replace('e', '', 1) }}", "Ho thre"),
            ("{{ ', '.join(['a', 'b']) }}{{ '%03d' | format(7) }}", "a, b007"),
            ("{{ strftime_now('100%%') }}", "100%"),
            ("{{ '<b>&' }}", "<b>&"),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn a_broken_template_is_an_error_that_names_the_key() {
        let cases = [
            ("{% for %}", "syntax error"),
            ("{{ raise_exception('no user') }}", "no user"),
            ("{{ nothing.at_all }}", "undefined"),
            ("{{ strftime_now(1) }}", "strftime_now"),
        ];
        for (source, expected) in cases {
            let error = render(source).unwrap_err().to_string();
            assert!(error.starts_with("model.gguf: key `tokenizer.chat_template`: "), "{error}");
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn no_template_takes_more_than_its_fuel() {
        let cases = [
            "{{ '%99999999999d' | format(1) }}",
            "{{ '%.99999999999f' | format(1.5) }}",
            "{{ '{:99999999999}'.format(1) }}",
            "{{ 'x' * 10**11 }}",
            "{{ ('x' * 10**8) | length }}",
            "{{ 'x' | indent(99999999999, true) }}",
            "{% set x = 'x' * 10**6 %}{{ x.replace('x', x) }}",
            "{% set x = 'x' * 10**6 %}{{ x | replace('x', x) }}",
            "{% set x = 'x' * 10**6 %}{{ x.join(range(90000)) }}",
            "{% set x = 'x' * 10**6 %}{% for i in range(90000) %}{{ x.find('y') }}{% endfor %}",
            "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='x') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        ];
        for source in cases {
            let start = Instant::now();
            let error = render(source).unwrap_err().to_string();
            assert!(error.starts_with("model.gguf: key `tokenizer.chat_template`: "), "{source}: {error}");
            assert!(!error.contains('\n') && start.elapsed().as_secs() < 10, "{source}: {error}");
        }
    }
}
