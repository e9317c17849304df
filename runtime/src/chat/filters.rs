//! Jinja2's filters, and `tojson` as Hugging Face replaces it.
//!
//! Filters that give a generator in Jinja2 go through their items at once here and give what can be gone through
//! once.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::arguments::{self, Arguments};
use super::ast::BinaryOp;
use super::budget::{Budget, Result, fault};
use super::format;
use super::interpreter::Interpreter;
use super::operators;
use super::print::{self, Json};
use super::text::{Text, TextBuilder};
use super::text_methods;
use super::value::{Row, VALUE_BYTES, Value};

/// The filters.
const NAMES: [&str; 48] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
];

/// Filters of Jinja2 that are of no use to a conversation.
const REFUSED: [&str; 6] = ["pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"];

/// Levels of depth that a filter within a filter takes: its function is large.
const FILTER_LEVELS: usize = 8;

/// How far `truncate` lets a text be longer than it says.
const LEEWAY: i128 = 5;

pub(super) fn is_filter(name: &str) -> bool {
    NAMES.contains(&name)
}

/// A part of the path of an attribute.
type Path = Vec<Value>;

impl Interpreter<'_> {
    /// `value | name(arguments)`.
    pub(super) fn filter(&mut self, name: &str, value: Value, arguments: Arguments) -> Result<Value> {
        let budget = self.budget;
        if REFUSED.contains(&name) {
            return Err(fault!("the filter '{name}' is not offered to chat templates"));
        }
        if !is_filter(name) {
            return Err(fault!("no filter named '{name}'"));
        }
        let none = |arguments: Arguments| arguments.bind(name, [], 0).map(|[]| ());
        let str = |value: &Value| print::str(budget, value);
        Ok(match name {
            // Texts.
            "upper" | "lower" | "capitalize" | "title" | "string" | "safe" | "e" | "escape"
            | "forceescape" | "wordcount" => {
                none(arguments)?;
                let text = str(&value)?;
                match name {
                    "upper" => Value::Text(text_methods::upper(budget, &text)?),
                    "lower" => Value::Text(text_methods::lower(budget, &text)?),
                    "capitalize" => Value::Text(text_methods::capitalize(budget, &text)?),
                    "title" => Value::Text(title(budget, &text)?),
                    "string" | "safe" => Value::Text(text),
                    "wordcount" => {
                        budget.walk(text.len())?;
                        let words = text.as_str().split(|c: char| !c.is_alphanumeric() && c != '_');
                        Value::Int(words.filter(|word| !word.is_empty()).count() as i128)
                    }
                    _ => Value::Text(escape(budget, &text)?),
                }
            }
            "trim" => {
                let [chars] = arguments.bind(name, ["chars"], 0)?;
                let chars = arguments::text(&chars, "chars")?;
                Value::Text(text_methods::strip(budget, &str(&value)?, chars, (true, true))?)
            }
            "center" => {
                let [width] = arguments.bind(name, ["width"], 0)?;
                let width = arguments::size(&width, "the width")?.unwrap_or(80);
                let text = str(&value)?;
                budget.scan(text.len())?;
                let missing = width.saturating_sub(text.as_str().chars().count());
                let before = missing / 2 + (missing & width & 1);
                let fill = Text::own(" ");
                Value::Text(text_methods::padded(budget, &text, &fill, before, missing - before)?)
            }
            "replace" => {
                let [old, new, count] = arguments.bind(name, ["old", "new", "count"], 2)?;
                let [old, new] = [old, new].map(|text| str(&text.unwrap_or(Value::None)));
                let count = arguments::int(&count, "count")?.unwrap_or(-1);
                Value::Text(text_methods::replace(budget, &str(&value)?, &old?, &new?, count)?)
            }
            "indent" => {
                let [width, first, blank] = arguments.bind(name, ["width", "first", "blank"], 0)?;
                let (first, blank) = (arguments::flag(&first), arguments::flag(&blank));
                Value::Text(indent(budget, value.expect_text("what is indented")?, width, first, blank)?)
            }
            "truncate" => {
                let names = ["length", "killwords", "end", "leeway"];
                let [length, kill, end, leeway] = arguments.bind(name, names, 0)?;
                let dots = Text::own("...");
                let end = arguments::text(&end, "the end")?.unwrap_or(&dots);
                let length = arguments::int(&length, "the length")?.unwrap_or(255);
                let leeway = arguments::int(&leeway, "the leeway")?.unwrap_or(LEEWAY);
                let text = value.expect_text("what is truncated")?;
                Value::Text(truncate(budget, text, length, arguments::flag(&kill), end, leeway)?)
            }
            "format" => {
                let Arguments { positional, keyword } = arguments;
                if !positional.is_empty() && !keyword.is_empty() {
                    return Err(fault!(
                        "format can't handle positional and keyword arguments at the same time"
                    ));
                }
                let values = if keyword.is_empty() {
                    Value::tuple(positional)?
                } else {
                    let mut dict = super::value::Dict::new();
                    for (name, value) in keyword {
                        dict.insert(budget, Value::Text(name), value)?;
                    }
                    Value::dict(dict)
                };
                Value::Text(format::percent(budget, &str(&value)?, &values)?)
            }
            "urlencode" => {
                none(arguments)?;
                Value::Text(url_encode(budget, &value)?)
            }
            "tojson" => {
                let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
                let [is_ascii, indent, separators, sorts_keys] = arguments.bind(name, names, 0)?;
                Value::Text(to_json(budget, &value, is_ascii, indent, separators, sorts_keys)?)
            }
            "filesizeformat" => {
                let [binary] = arguments.bind(name, ["binary"], 0)?;
                let size =
                    to_float(budget, &value)?.ok_or_else(|| fault!("filesizeformat needs a number"))?;
                Value::own(file_size(size, arguments::flag(&binary)))
            }

            // Numbers.
            "abs" => {
                none(arguments)?;
                value.defined()?;
                match (value.as_int(), &value) {
                    (Some(int), _) => Value::Int(int.checked_abs().unwrap_or(i128::MAX)),
                    (None, Value::Float(float)) => Value::Float(float.abs()),
                    _ => return Err(fault!("bad operand type for abs(): '{}'", value.type_name())),
                }
            }
            "int" => {
                let [default, base] = arguments.bind(name, ["default", "base"], 0)?;
                let base = arguments::int(&base, "the base")?.unwrap_or(10);
                to_int(budget, &value, base)?.unwrap_or(default.unwrap_or(Value::Int(0)))
            }
            "float" => {
                let [default] = arguments.bind(name, ["default"], 0)?;
                match to_float(budget, &value)? {
                    Some(float) => Value::Float(float),
                    None => default.unwrap_or(Value::Float(0.0)),
                }
            }
            "round" => {
                let [precision, method] = arguments.bind(name, ["precision", "method"], 0)?;
                let precision = arguments::int(&precision, "the precision")?.unwrap_or(0);
                let method = arguments::text(&method, "the method")?.map_or("common", Text::as_str);
                round(&value, precision, method)?
            }

            // Any value.
            "default" | "d" => {
                let [default, boolean] = arguments.bind(name, ["default_value", "boolean"], 0)?;
                let is_missing = value.is_undefined() || arguments::flag(&boolean) && !value.is_true();
                if is_missing { default.unwrap_or_else(|| Value::own("")) } else { value }
            }
            "attr" => {
                let [attribute] = arguments.bind(name, ["name"], 1)?;
                let attribute = attribute.unwrap_or(Value::None);
                let attribute = attribute.expect_text("an attribute")?;
                match self.own_attribute(&value, attribute.shared())? {
                    Some(attribute) => attribute,
                    None => Value::undefined("there is no such attribute"),
                }
            }
            "length" | "count" => {
                none(arguments)?;
                let len = match &value {
                    Value::Loop(id) => self.loop_len(*id)?,
                    value => operators::len(budget, value)?,
                };
                Value::Int(len as i128)
            }

            // Rows of values.
            "list" => {
                none(arguments)?;
                Value::list(operators::items(budget, &value)?)?
            }
            "first" | "last" => {
                none(arguments)?;
                self.end(name, &value)?
            }
            "reverse" => {
                none(arguments)?;
                match &value {
                    Value::Text(_) => operators::slice(budget, &value, [None, None, Some(-1)])?,
                    _ => {
                        let mut items = operators::items(budget, &value)?;
                        items.reverse();
                        if matches!(value, Value::Iter(_)) {
                            Value::list(items)?
                        } else {
                            Value::iter(items)?
                        }
                    }
                }
            }
            "join" => {
                let [separator, attribute] = arguments.bind(name, ["d", "attribute"], 0)?;
                let separator = str(&separator.unwrap_or_else(|| Value::own("")))?;
                let path = paths(budget, attribute.as_ref())?;
                let mut out = TextBuilder::new(budget);
                for (index, item) in operators::items(budget, &value)?.iter().enumerate() {
                    if index > 0 {
                        out.push_text(&separator)?;
                    }
                    let item = self.follow(item, &path, None)?;
                    print::write_str(&mut out, budget, &item)?;
                }
                Value::Text(out.finish()?)
            }
            "items" => {
                none(arguments)?;
                match &value {
                    Value::Dict(dict) => {
                        budget.steps(dict.len())?;
                        Value::iter(dict.items(budget)?)?
                    }
                    Value::Undefined(_) => Value::iter(Vec::new())?,
                    _ => return Err(fault!("can only get item pairs from a mapping")),
                }
            }
            "dictsort" => {
                let names = ["case_sensitive", "by", "reverse"];
                let [case_sensitive, by, reverse] = arguments.bind(name, names, 0)?;
                let place = match arguments::text(&by, "what is sorted by")?.map_or("key", Text::as_str) {
                    "key" => 0,
                    "value" => 1,
                    _ => return Err(fault!("dictsort sorts by either \"key\" or \"value\"")),
                };
                let Value::Dict(dict) = &value else { return Err(fault!("dictsort needs a dictionary")) };
                let path = vec![Value::Int(place)];
                let (case, reverse) = (arguments::flag(&case_sensitive), arguments::flag(&reverse));
                Value::list(self.sorted(dict.items(budget)?, &[path], case, reverse)?)?
            }
            "sort" => {
                let names = ["reverse", "case_sensitive", "attribute"];
                let [reverse, case_sensitive, attribute] = arguments.bind(name, names, 0)?;
                let keys = match &attribute {
                    Some(Value::Text(text)) => {
                        let parts = text.as_str().split(',');
                        parts.map(|part| paths(budget, Some(&Value::own(part)))).collect::<Result<_>>()?
                    }
                    attribute => vec![paths(budget, attribute.as_ref())?],
                };
                let items = operators::items(budget, &value)?;
                let (case, reverse) = (arguments::flag(&case_sensitive), arguments::flag(&reverse));
                Value::list(self.sorted(items, &keys, case, reverse)?)?
            }
            "unique" => {
                let [case_sensitive, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
                let path = paths(budget, attribute.as_ref())?;
                let case = arguments::flag(&case_sensitive);
                let mut seen = HashSet::new();
                let mut kept = Vec::new();
                for item in operators::items(budget, &value)? {
                    let key = self.sort_key(&item, &path, case, None)?.key(budget)?;
                    budget.product(VALUE_BYTES, 2)?;
                    if seen.insert(key) {
                        kept.push(item);
                    }
                }
                Value::iter(kept)?
            }
            "min" | "max" => {
                let [case_sensitive, attribute] = arguments.bind(name, ["case_sensitive", "attribute"], 0)?;
                let path = paths(budget, attribute.as_ref())?;
                let case = arguments::flag(&case_sensitive);
                let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
                let mut best: Option<(Value, Value)> = None;
                for item in operators::items(budget, &value)? {
                    let key = self.sort_key(&item, &path, case, None)?;
                    let is_better = match &best {
                        None => true,
                        Some((best, _)) => operators::order(budget, &key, best)? == wanted,
                    };
                    if is_better {
                        best = Some((key, item));
                    }
                }
                best.map_or_else(|| Value::undefined("no aggregated item, sequence was empty"), |best| best.1)
            }
            "sum" => {
                let [attribute, start] = arguments.bind(name, ["attribute", "start"], 0)?;
                let path = paths(budget, attribute.as_ref())?;
                let mut sum = start.unwrap_or(Value::Int(0));
                if matches!(sum, Value::Text(_)) {
                    return Err(fault!("sum() can't sum strings"));
                }
                for item in operators::items(budget, &value)? {
                    let item = self.follow(&item, &path, None)?;
                    sum = operators::binary(budget, BinaryOp::Add, &sum, &item)?;
                }
                sum
            }
            "groupby" => {
                let names = ["attribute", "default", "case_sensitive"];
                let [attribute, default, case_sensitive] = arguments.bind(name, names, 1)?;
                let path = paths(budget, attribute.as_ref())?;
                self.groups(&value, &path, default.as_ref(), arguments::flag(&case_sensitive))?
            }
            "batch" => {
                let [count, fill] = arguments.bind(name, ["linecount", "fill_with"], 1)?;
                let count = arguments::size(&count, "the size of a batch")?.unwrap_or(0);
                let items = operators::items(budget, &value)?;
                let fill = fill.filter(|fill| !matches!(fill, Value::None));
                let mut batches = Vec::new();
                // Jinja2 makes one batch of all where the size is no size.
                let size = if count == 0 { items.len().max(1) } else { count };
                for batch in items.chunks(size) {
                    let mut batch = batch.to_vec();
                    budget.product(VALUE_BYTES, batch.len() + 2)?;
                    if let Some(fill) = &fill {
                        let missing = count.saturating_sub(batch.len());
                        budget.product(VALUE_BYTES, missing)?;
                        batch.extend(std::iter::repeat_n(fill, missing).cloned());
                    }
                    batches.push(Value::list(batch)?);
                }
                Value::iter(batches)?
            }
            "slice" => {
                let [count, fill] = arguments.bind(name, ["slices", "fill_with"], 1)?;
                let count = arguments::size(&count, "the number of slices")?.unwrap_or(0);
                let items = operators::items(budget, &value)?;
                if count == 0 {
                    return Err(fault!("slice needs at least one slice"));
                }
                budget.product(3 * VALUE_BYTES, count)?;
                budget.steps(count)?;
                budget.product(VALUE_BYTES, items.len())?;
                let fill = fill.filter(|fill| !matches!(fill, Value::None));
                let (each, longer) = (items.len() / count, items.len() % count);
                let mut rest = &items[..];
                let mut slices = Vec::with_capacity(count);
                for index in 0..count {
                    let (slice, after) = rest.split_at(each + usize::from(index < longer));
                    rest = after;
                    let mut slice = slice.to_vec();
                    slice.extend(fill.clone().filter(|_| index >= longer));
                    slices.push(Value::list(slice)?);
                }
                Value::iter(slices)?
            }
            "map" => self.map(&value, arguments)?,
            _ => {
                let is_wanted = name.starts_with("select");
                self.select(&value, arguments, name.ends_with("attr"), is_wanted)?
            }
        })
    }

    /// The first or last item.
    fn end(&mut self, name: &str, value: &Value) -> Result<Value> {
        let budget = self.budget;
        value
            .defined()
            .or_else(|error| if name == "first" || value.is_undefined() { Ok(value) } else { Err(error) })?;
        let found = match value {
            Value::List(list) => {
                let item = if name == "first" { list.items.first() } else { list.items.last() };
                item.cloned()
            }
            Value::Iter(_) if name == "last" => return Err(fault!("'generator' object is not reversible")),
            Value::Iter(iter) => {
                let item = iter.items.get(iter.at.get()).cloned();
                iter.at.set((iter.at.get() + 1).min(iter.items.len()));
                item
            }
            Value::Text(_) | Value::Range(_) => {
                operators::item(budget, value, &Value::Int(if name == "first" { 0 } else { -1 }))?
            }
            value => {
                let mut items = operators::items(budget, value)?;
                if name == "first" { items.into_iter().next() } else { items.pop() }
            }
        };
        Ok(found.unwrap_or_else(|| Value::undefined(format_args!("no {name} item, sequence was empty"))))
    }

    /// What `path` leads to from `value`; `default` stands for what is not there.
    fn follow(&mut self, value: &Value, path: &Path, default: Option<&Value>) -> Result<Value> {
        let mut value = value.clone();
        for part in path {
            value = self.item(&value, part)?;
            if let (Some(default), true) = (default, value.is_undefined()) {
                value = default.clone();
            }
        }
        Ok(value)
    }

    /// What `value` is sorted by.
    fn sort_key(
        &mut self,
        value: &Value,
        path: &Path,
        is_case_sensitive: bool,
        default: Option<&Value>,
    ) -> Result<Value> {
        match self.follow(value, path, default)? {
            Value::Text(text) if !is_case_sensitive => {
                Ok(Value::Text(text_methods::lower(self.budget, &text)?))
            }
            key => Ok(key),
        }
    }

    fn sorted(
        &mut self,
        items: Vec<Value>,
        paths: &[Path],
        is_case_sensitive: bool,
        is_reverse: bool,
    ) -> Result<Vec<Value>> {
        let budget = self.budget;
        budget.product(2 * VALUE_BYTES, items.len().saturating_mul(paths.len()))?;
        let mut keyed = Vec::with_capacity(items.len());
        for item in items {
            let mut keys = Vec::with_capacity(paths.len());
            for path in paths {
                keys.push(self.sort_key(&item, path, is_case_sensitive, None)?);
            }
            keyed.push((keys, item));
        }
        // Equal items keep their places in both directions.
        let sorted = operators::sort(budget, keyed, |a, b| {
            for (a, b) in a.0.iter().zip(&b.0) {
                let order = operators::order(budget, a, b)?;
                if order != Ordering::Equal {
                    return Ok(if is_reverse { order.reverse() } else { order });
                }
            }
            Ok(Ordering::Equal)
        })?;
        Ok(sorted.into_iter().map(|(_, item)| item).collect())
    }

    fn groups(
        &mut self,
        value: &Value,
        path: &Path,
        default: Option<&Value>,
        is_case_sensitive: bool,
    ) -> Result<Value> {
        let budget = self.budget;
        let items = operators::items(budget, value)?;
        budget.product(2 * VALUE_BYTES, items.len())?;
        let mut keyed = Vec::with_capacity(items.len());
        for item in items {
            keyed.push((self.sort_key(&item, path, is_case_sensitive, default)?, item));
        }
        let keyed = operators::sort(budget, keyed, |a, b| operators::order(budget, &a.0, &b.0))?;
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for (key, item) in keyed {
            match groups.last_mut() {
                Some((last, group)) if operators::equal(budget, last, &key)? => group.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        budget.product(6 * VALUE_BYTES, groups.len())?;
        let mut rows = Vec::with_capacity(groups.len());
        for (key, group) in groups {
            // A group has the name of its first item, as that writes it.
            let name = if is_case_sensitive { key } else { self.follow(&group[0], path, default)? };
            rows.push(Value::row(Row::Group, vec![name, Value::list(group)?])?);
        }
        Value::list(rows)
    }

    fn map(&mut self, value: &Value, mut arguments: Arguments) -> Result<Value> {
        let budget = self.budget;
        if !value.is_true() {
            return Value::iter(Vec::new());
        }
        let mut mapped = Vec::new();
        if arguments.positional.is_empty() {
            let [attribute, default] = arguments.bind("map", ["attribute", "default"], 1)?;
            let path = paths(budget, attribute.as_ref())?;
            let default = default.filter(|default| !matches!(default, Value::None));
            for item in operators::items(budget, value)? {
                mapped.push(self.follow(&item, &path, default.as_ref())?);
            }
        } else {
            let name = arguments.positional.remove(0);
            let name = name.expect_text("the filter of map")?;
            for item in operators::items(budget, value)? {
                let _levels = budget.enter_levels(FILTER_LEVELS)?;
                budget.steps(arguments.positional.len() + arguments.keyword.len())?;
                mapped.push(self.filter(name.as_str(), item, arguments.clone())?);
            }
        }
        Value::iter(mapped)
    }

    fn select(
        &mut self,
        value: &Value,
        mut arguments: Arguments,
        has_attribute: bool,
        is_wanted: bool,
    ) -> Result<Value> {
        let budget = self.budget;
        if !value.is_true() {
            return Value::iter(Vec::new());
        }
        let mut path = Path::new();
        if has_attribute {
            if arguments.positional.is_empty() {
                return Err(fault!("missing parameter for attribute name"));
            }
            path = paths(budget, Some(&arguments.positional.remove(0)))?;
        }
        let test = if arguments.positional.is_empty() { None } else { Some(arguments.positional.remove(0)) };
        let mut selected = Vec::new();
        for item in operators::items(budget, value)? {
            let tested = self.follow(&item, &path, None)?;
            budget.steps(arguments.positional.len() + arguments.keyword.len())?;
            let holds = match &test {
                None => tested.is_true(),
                Some(name) => self.test(name.expect_text("a test")?.as_str(), &tested, arguments.clone())?,
            };
            if holds == is_wanted {
                selected.push(item);
            }
        }
        Value::iter(selected)
    }
}

/// The parts of an attribute: names and places with points between them.
fn paths(budget: &Budget, attribute: Option<&Value>) -> Result<Path> {
    match attribute {
        None | Some(Value::None) => Ok(Path::new()),
        Some(Value::Text(text)) => {
            budget.product(2 * VALUE_BYTES, text.len())?;
            Ok(text.as_str().split('.').map(path_part).collect())
        }
        Some(other) => Ok(vec![other.clone()]),
    }
}

fn path_part(part: &str) -> Value {
    match part.parse() {
        Ok(place) if part.bytes().all(|b| b.is_ascii_digit()) => Value::Int(place),
        _ => Value::own(Arc::from(part)),
    }
}

/// A capital at the beginning of each word, as Jinja2 sees words.
fn title(budget: &Budget, text: &Text) -> Result<Text> {
    let string = text.as_str();
    let mut begins = true;
    text.map_chars(budget, |at, c| {
        let is_border = matches!(c, '-' | '(' | '{' | '[' | '<') || super::lexer::is_space(c);
        let mapped = if begins || is_border {
            text_methods::upper_char(c)
        } else {
            text_methods::lower_char(string, at, c)
        };
        begins = is_border;
        mapped
    })
}

fn escape(budget: &Budget, text: &Text) -> Result<Text> {
    budget.walk(text.len())?;
    let mut out = TextBuilder::new(budget);
    for (_, c, is_content) in text.chars(0..text.len()) {
        match c {
            '&' => out.push("&amp;", is_content)?,
            '<' => out.push("&lt;", is_content)?,
            '>' => out.push("&gt;", is_content)?,
            '"' => out.push("&#34;", is_content)?,
            '\'' => out.push("&#39;", is_content)?,
            c => out.push_char(c, is_content)?,
        }
    }
    out.finish()
}

fn indent(
    budget: &Budget,
    text: &Text,
    width: Option<Value>,
    indents_first: bool,
    indents_blank: bool,
) -> Result<Text> {
    let indention = match width {
        Some(Value::Text(text)) => text,
        width => {
            let width = arguments::size(&width, "the width")?.unwrap_or(4);
            let mut spaces = TextBuilder::new(budget);
            spaces.push_repeated(&Text::own(" "), width)?;
            spaces.finish()?
        }
    };
    budget.walk(text.len())?;
    let mut out = TextBuilder::new(budget);
    // Jinja2 adds a newline before it cuts lines, so that a newline at the end begins one more.
    let last = text.len()..text.len();
    let has_last = text.is_empty() || ends_line(text.as_str());
    let lines = text_methods::lines(text.as_str(), false).chain(has_last.then_some(last));
    for (index, line) in lines.enumerate() {
        budget.steps(1)?;
        if index > 0 {
            out.push_own("\n")?;
        }
        let is_indented = if index == 0 { indents_first } else { indents_blank || !line.is_empty() };
        if is_indented {
            out.push_text(&indention)?;
        }
        out.push_part(text, line)?;
    }
    out.finish()
}

/// Whether the last character of `string` ends a line.
fn ends_line(string: &str) -> bool {
    // A carriage return makes one end with the newline that Jinja2 adds.
    let last = string.char_indices().next_back();
    last.is_some_and(|(at, c)| {
        c != '\r' && text_methods::lines(&string[at..], false).any(|line| line.is_empty())
    })
}

fn truncate(
    budget: &Budget,
    text: &Text,
    length: i128,
    kills_words: bool,
    end: &Text,
    leeway: i128,
) -> Result<Text> {
    let string = text.as_str();
    budget.scan(end.len())?;
    let end_chars = end.as_str().chars().count() as i128;
    if length < end_chars || leeway < 0 {
        return Err(fault!("truncate needs a length of at least {end_chars} and a leeway of at least 0"));
    }
    budget.scan(text.len())?;
    if string.chars().count() as i128 <= length.saturating_add(leeway) {
        return Ok(text.clone());
    }
    let kept = usize::try_from(length - end_chars).unwrap_or(usize::MAX);
    let mut cut = string.char_indices().nth(kept).map_or(string.len(), |(at, _)| at);
    if !kills_words {
        cut = string[..cut].rfind(' ').unwrap_or(cut);
    }
    let mut out = TextBuilder::new(budget);
    out.push_part(text, 0..cut)?;
    out.push_text(end)?;
    out.finish()
}

fn url_encode(budget: &Budget, value: &Value) -> Result<Text> {
    let mut out = TextBuilder::new(budget);
    let quote = |out: &mut TextBuilder<'_>, value: &Value, is_query: bool| -> Result<()> {
        let text = print::str(budget, value)?;
        budget.walk(text.len())?;
        for (_, c, is_content) in text.chars(0..text.len()) {
            match c {
                c if c.is_ascii_alphanumeric() || "_.-~".contains(c) || c == '/' && !is_query => {
                    out.push_char(c, is_content)?;
                }
                ' ' if is_query => out.push("+", is_content)?,
                c => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        out.push(&format!("%{byte:02X}"), is_content)?;
                    }
                }
            }
        }
        Ok(())
    };
    let pairs = match value {
        Value::Dict(dict) => dict.items(budget)?,
        Value::List(_) | Value::Iter(_) | Value::Range(_) => operators::items(budget, value)?,
        value => {
            quote(&mut out, value, false)?;
            return out.finish();
        }
    };
    for (index, pair) in pairs.iter().enumerate() {
        let [key, value] = &operators::items(budget, pair)?[..] else {
            return Err(fault!("urlencode needs pairs"));
        };
        if index > 0 {
            out.push_own("&")?;
        }
        quote(&mut out, key, true)?;
        out.push_own("=")?;
        quote(&mut out, value, true)?;
    }
    out.finish()
}

fn to_json(
    budget: &Budget,
    value: &Value,
    is_ascii: Option<Value>,
    indent: Option<Value>,
    separators: Option<Value>,
    sorts_keys: Option<Value>,
) -> Result<Text> {
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some(text),
        Some(width) => {
            let width = usize::try_from(width.expect_int("the indent")?.max(0)).unwrap_or(usize::MAX);
            let mut spaces = TextBuilder::new(budget);
            spaces.push_repeated(&Text::own(" "), width)?;
            Some(spaces.finish()?)
        }
    };
    let (item_separator, key_separator) = match separators {
        None | Some(Value::None) => (Text::own(if indent.is_some() { "," } else { ", " }), Text::own(": ")),
        Some(separators) => match &operators::items(budget, &separators)?[..] {
            [Value::Text(items), Value::Text(keys)] => (items.clone(), keys.clone()),
            _ => return Err(fault!("tojson needs two separators, which are strings")),
        },
    };
    let (is_ascii, sorts_keys) = (arguments::flag(&is_ascii), arguments::flag(&sorts_keys));
    print::json(budget, value, &Json { is_ascii, indent, item_separator, key_separator, sorts_keys })
}

fn file_size(bytes: f64, is_binary: bool) -> String {
    let base: f64 = if is_binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return "1 Byte".into();
    }
    if bytes < base {
        return format!("{} Bytes", bytes as i64);
    }
    let units = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut size = bytes;
    let mut prefix = "";
    for unit in units {
        size /= base;
        prefix = unit;
        if size < base {
            break;
        }
    }
    let prefix = if is_binary { format!("{}iB", prefix.to_uppercase()) } else { format!("{prefix}B") };
    format!("{size:.1} {prefix}")
}

/// Python's `int(value, base)`, then `int(float(value))`; `None` where neither can be.
fn to_int(budget: &Budget, value: &Value, base: i128) -> Result<Option<Value>> {
    value.defined()?;
    let whole = |float: f64| {
        if float.is_finite() && float.abs() < 2_f64.powi(126) {
            Some(Value::Int(float as i128))
        } else {
            None
        }
    };
    Ok(match value {
        Value::Text(text) => {
            pay_for_number(budget, text)?;
            let parsed = parse_int(text.as_str(), base)?;
            parsed.map(Value::Int).or_else(|| parse_float(text.as_str()).and_then(whole))
        }
        Value::Float(float) if float.is_infinite() => {
            return Err(fault!("cannot convert float infinity to integer"));
        }
        Value::Float(float) => whole(*float),
        value => value.as_int().map(Value::Int),
    })
}

fn parse_int(text: &str, base: i128) -> Result<Option<i128>> {
    let text = text.trim_matches(super::lexer::is_space);
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if base != 0 && !(2..=36).contains(&base) {
        return Err(fault!("int() base must be >= 2 and <= 36, or 0"));
    }
    let lower = digits.get(..2).unwrap_or("").to_ascii_lowercase();
    let prefixed = match &*lower {
        "0x" => 16,
        "0o" => 8,
        "0b" => 2,
        _ => 0,
    };
    let (base, digits) = match base {
        0 if prefixed == 0 => (10, digits),
        0 => (prefixed, &digits[2..]),
        base if base == prefixed => (base, &digits[2..]),
        base => (base, digits),
    };
    // Underscores stand between digits only.
    let is_badly_parted = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    if is_badly_parted || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    {
        return Ok(None);
    }
    let value = i128::from_str_radix(&digits.replace('_', ""), base as u32).ok();
    Ok(value.map(|value| if is_negative { -value } else { value }))
}

/// Pays for reading a text as a number, and for its copy without underscores.
fn pay_for_number(budget: &Budget, text: &Text) -> Result<()> {
    budget.walk(text.len())?;
    budget.bytes(text.len())
}

/// Python's `float(value)`; `None` where it can't be.
fn to_float(budget: &Budget, value: &Value) -> Result<Option<f64>> {
    value.defined()?;
    Ok(match value {
        Value::Text(text) => {
            pay_for_number(budget, text)?;
            parse_float(text.as_str())
        }
        value => value.as_float(),
    })
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(super::lexer::is_space);
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    let underscores = bytes.iter().enumerate().filter(|(_, b)| **b == b'_');
    let is_well_parted = underscores
        .into_iter()
        .all(|(at, _)| at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1)));
    if !is_well_parted {
        return None;
    }
    text.replace('_', "").parse().ok()
}

fn round(value: &Value, precision: i128, method: &str) -> Result<Value> {
    value.defined()?;
    let precision = precision.clamp(-400, 400) as i32;
    let Some(float) = value.as_float() else {
        return Err(fault!("a value of type {} can't be rounded", value.type_name()));
    };
    match (method, value.as_int()) {
        ("common", Some(int)) if precision >= 0 => Ok(Value::Int(int)),
        ("common", Some(int)) => {
            let unit = 10_i128.checked_pow(precision.unsigned_abs());
            let Some(unit) = unit else { return Ok(Value::Int(0)) };
            let (floor, rest) = (int.div_euclid(unit), int.rem_euclid(unit));
            let is_up = match (2 * rest).cmp(&unit) {
                Ordering::Less => false,
                Ordering::Equal => floor % 2 != 0,
                Ordering::Greater => true,
            };
            Ok(Value::Int((floor + i128::from(is_up)) * unit))
        }
        ("common", None) if !float.is_finite() => Ok(Value::Float(float)),
        ("common", None) if precision >= 0 => {
            let digits = format!("{float:.*}", precision as usize);
            Ok(Value::Float(digits.parse().expect("it is a number")))
        }
        ("common", None) => {
            let unit = 10_f64.powi(-precision);
            Ok(Value::Float((float / unit).round_ties_even() * unit))
        }
        ("ceil" | "floor", _) => {
            let unit = 10_f64.powi(precision);
            let scaled = float * unit;
            Ok(Value::Float(if method == "ceil" { scaled.ceil() } else { scaled.floor() } / unit))
        }
        _ => Err(fault!("the method of round must be common, ceil or floor")),
    }
}
