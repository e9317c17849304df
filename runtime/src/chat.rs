//! A conversation as the text that a model was trained to continue, by the template in its file.
//!
//! Templates are written for Hugging Face's `apply_chat_template`, which is Jinja2 with some settings and
//! functions; these are offered here too.
//! Source: <https://huggingface.co/docs/transformers/chat_templating_writing>.

use std::path::PathBuf;
use std::slice;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, State, Value, context};
use minijinja_contrib::pycompat;

use crate::gguf::{self, Metadata};
use crate::tokenizer::Tokenizer;

/// What rendering may cost: an instruction of the template each, or 64 bytes of text. Real templates take some
/// thousands; the rest is for long conversations.
const FUEL: u64 = 1_000_000;

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
    /// The template is not good Jinja, or refuses the conversation.
    #[error("{}: key `{KEY}`: {source}; run with --raw to do without it", path.display())]
    Template {
        /// The model file.
        path: PathBuf,
        /// What the template engine said.
        source: minijinja::Error,
    },
}

/// The chat template of one model.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    bos: String,
    eos: String,
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
        let mut template = Self {
            path: metadata.path().into(),
            environment: environment(),
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
        };
        match template.environment.add_template_owned(KEY, source.to_owned()) {
            Ok(()) => Ok(Some(template)),
            Err(source) => Err(template.error(source)),
        }
    }

    /// The text of the conversation, up to where the assistant's next message begins.
    ///
    /// It holds the texts of special tokens, and possibly of BOS.
    ///
    /// # Errors
    ///
    /// Where the template fails, as some do on purpose for an order of roles that they don't know.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let template = self.environment.get_template(KEY).map_err(|source| self.error(source))?;
        let message = |Message { role, content }: &Message| context! { role, content };
        let context = context! {
            messages => messages.iter().map(message).collect::<Vec<_>>(),
            add_generation_prompt => true,
            bos_token => &self.bos,
            eos_token => &self.eos,
            // Templates ask whether these are none, not whether they are defined.
            tools => (),
            documents => (),
        };
        template.render(context).map_err(|source| self.error(source))
    }

    fn error(&self, source: minijinja::Error) -> Error {
        Error::Template { path: self.path.clone(), source }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(python_method);
    environment.add_function("raise_exception", |problem: String| -> Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, problem))
    });
    environment.add_function("strftime_now", |format: String| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        strftime(&format, now)
    });
    environment
}

/// Python's methods. Those whose result can be far longer than what they are given go by the filters that
/// weigh it against the fuel first.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    match (method, args) {
        ("replace", _) if value.as_str().is_some() => {
            state.apply_filter("replace", &[slice::from_ref(value), args].concat())
        }
        ("join", [items]) if value.as_str().is_some() => {
            state.apply_filter("join", &[items.clone(), value.clone()])
        }
        ("format", _) if value.as_str().is_some() => {
            let problem = "the method `format` of strings is not offered; use the filter `format` or `~`";
            Err(minijinja::Error::new(ErrorKind::UnknownMethod, problem))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// `seconds` since 1970, UTC, in the parts of C's `strftime` that dates in templates are made of.
fn strftime(format: &str, seconds: u64) -> Result<String, minijinja::Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        text += &match rest.next() {
            Some('Y') => year.to_string(),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('H') => format!("{:02}", second / 3600),
            Some('M') => format!("{:02}", second / 60 % 60),
            Some('S') => format!("{:02}", second % 60),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('%') => "%".into(),
            _ => {
                let problem =
                    format!("strftime_now knows %Y %m %d %H %M %S %B %b %A %a %%, not all of {format:?}");
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, problem));
            }
        };
    }
    Ok(text)
}

/// Year, month and day of a day counted from 1970-01-01, by counting from a 1 March, so that leap days come last.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
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
        template.render(&messages(&[("user", "Hi there")]))
    }

    #[test]
    fn smollm2_speaks_chatml_with_a_default_system_message() {
        let file = Gguf::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/smollm2-bpe-vocab.gguf")).unwrap();
        let tokenizer = Tokenizer::from_metadata(file.metadata()).unwrap();
        let template = ChatTemplate::from_metadata(file.metadata(), &tokenizer).unwrap().unwrap();
        assert_eq!(
            template.render(&messages(&[("user", "Hi")])).unwrap(),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let conversation = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")];
        assert_eq!(
            template.render(&messages(&conversation)).unwrap(),
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
            ("{{ strftime_now('%Q') }}", "%Q"),
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

    #[test]
    fn dates() {
        let cases = [
            (0, "%Y-%m-%d %A", "1970-01-01 Thursday"),
            (951_782_400, "%d %b %Y", "29 Feb 2000"),
            (951_868_800, "%a, %B %d", "Wed, March 01"),
            (4_102_444_799, "%Y-%m-%d %H:%M:%S", "2099-12-31 23:59:59"),
        ];
        for (seconds, format, expected) in cases {
            assert_eq!(strftime(format, seconds).unwrap(), expected);
        }
    }
}
