//! Evaluates expressions: names, attributes, calls, and the operators that choose what to evaluate.

use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::{self, CompareOp, Expr, ExprKind, UnaryOp};
use super::budget::{Result, fault};
use super::dates;
use super::interpreter::Interpreter;
use super::methods;
use super::operators;
use super::print;
use super::text::{Text, TextBuilder};
use super::value::{Dict, Function, Range, Row, UNDEFINED_BYTES, VALUE_BYTES, Value, short};

/// The longest `range`, which is that of Jinja2's sandbox.
const MAX_RANGE: usize = 100_000;

impl Interpreter<'_> {
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value> {
        let budget = self.budget;
        budget.steps(1).map_err(|error| error.at(expr.line))?;
        let _level = budget.enter().map_err(|error| error.at(expr.line))?;
        self.eval_kind(&expr.kind).map_err(|error| error.at(expr.line))
    }

    fn eval_kind(&mut self, kind: &ExprKind) -> Result<Value> {
        let budget = self.budget;
        Ok(match kind {
            ExprKind::None => Value::None,
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::Int(value) => Value::Int(*value),
            ExprKind::Float(value) => Value::Float(*value),
            ExprKind::Text(text) => Value::own(Arc::clone(text)),
            ExprKind::Name(name) => self.lookup(name)?,
            ExprKind::List(items) => Value::list(self.eval_all(items)?)?,
            ExprKind::Tuple(items) => Value::tuple(self.eval_all(items)?)?,
            ExprKind::Dict(items) => {
                let mut dict = Dict::new();
                for (key, value) in items {
                    let key = self.eval(key)?;
                    dict.insert(budget, key, self.eval(value)?)?;
                }
                Value::dict(dict)
            }
            ExprKind::Attribute(of, name) => {
                let of = self.eval(of)?;
                self.attribute(&of, name)?
            }
            ExprKind::Item(of, key) => {
                let of = self.eval(of)?;
                let key = self.eval(key)?;
                self.item(&of, &key)?
            }
            ExprKind::Slice(of, parts) => {
                let of = self.eval(of)?;
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                    let Some(part) = part else { continue };
                    let part = self.eval(part)?;
                    if !matches!(part, Value::None) {
                        *bound = Some(part.expect_int("a slice's index")?);
                    }
                }
                operators::slice(budget, &of, bounds)?
            }
            ExprKind::Call(callee, arguments) => {
                let callee = self.eval(callee)?;
                let arguments = self.eval_arguments(arguments)?;
                self.call(&callee, arguments)?
            }
            ExprKind::Filter(of, name, arguments) => {
                let of = match of {
                    Some(of) => self.eval(of)?,
                    // The body of a block, which has no name that a template could write.
                    None => self.lookup("")?,
                };
                let arguments = self.eval_arguments(arguments)?;
                self.filter(name, of, arguments)?
            }
            ExprKind::Test(of, name, arguments) => {
                let of = self.eval(of)?;
                let arguments = self.eval_arguments(arguments)?;
                Value::Bool(self.test(name, &of, arguments)?)
            }
            ExprKind::Unary(UnaryOp::Not, of) => Value::Bool(!self.eval(of)?.is_true()),
            ExprKind::Unary(op, of) => operators::unary(*op, &self.eval(of)?)?,
            ExprKind::Binary(op, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                operators::binary(budget, *op, &left, &right)?
            }
            ExprKind::And(left, right) => match self.eval(left)? {
                value if value.is_true() => self.eval(right)?,
                value => value,
            },
            ExprKind::Or(left, right) => match self.eval(left)? {
                value if value.is_true() => value,
                _ => self.eval(right)?,
            },
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    if !compare(self, *op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            ExprKind::Concat(parts) => {
                let mut out = TextBuilder::new(budget);
                for part in parts {
                    let part = self.eval(part)?;
                    print::write_str(&mut out, budget, &part)?;
                }
                Value::Text(out.finish()?)
            }
            ExprKind::Conditional(condition, value, otherwise) => {
                if self.eval(condition)?.is_true() {
                    self.eval(value)?
                } else if let Some(otherwise) = otherwise {
                    self.eval(otherwise)?
                } else {
                    Value::undefined("the inline if-expression evaluated to false and no else is defined")
                }
            }
        })
    }

    fn eval_all(&mut self, exprs: &[Expr]) -> Result<Vec<Value>> {
        self.budget.product(VALUE_BYTES, exprs.len())?;
        exprs.iter().map(|expr| self.eval(expr)).collect()
    }

    fn eval_arguments(&mut self, arguments: &ast::Arguments) -> Result<Arguments> {
        let mut positional = self.eval_all(&arguments.positional)?;
        self.budget.product(2 * VALUE_BYTES, arguments.keyword.len())?;
        let mut keyword = Vec::with_capacity(arguments.keyword.len());
        for (name, expr) in &arguments.keyword {
            keyword.push((Text::own(Arc::clone(name)), self.eval(expr)?));
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.eval(rest)?;
            rest.defined()?;
            positional.extend(operators::items(self.budget, &rest)?);
        }
        if let Some(rest) = &arguments.keyword_rest {
            let Value::Dict(dict) = self.eval(rest)? else { return Err(fault!("`**` needs a dictionary")) };
            self.budget.product(2 * VALUE_BYTES, dict.len())?;
            self.budget.steps(dict.len())?;
            // The names in a dictionary differ from each other.
            for (name, _) in &keyword {
                self.budget.scan(name.len())?;
                if dict.get_str(name.shared()).is_some() {
                    return Err(fault!("the argument `{}` is given twice", name.as_str()));
                }
            }
            for (name, value) in dict.entries() {
                keyword.push((name.expect_text("a name after `**`")?.clone(), value.clone()));
            }
        }
        Ok(Arguments { positional, keyword })
    }

    /// The call of a call block, with its body as the argument `caller`.
    pub(super) fn eval_call_block(&mut self, call: &Expr, caller: Value) -> Result<Value> {
        let ExprKind::Call(callee, arguments) = &call.kind else { return Err(fault!("expected a call")) };
        let callee = self.eval(callee)?;
        let mut arguments = self.eval_arguments(arguments)?;
        arguments.keyword.push((Text::own("caller"), caller));
        self.call(&callee, arguments)
    }

    /// `value.name`: Python's attribute before an item of that name.
    pub(super) fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Value> {
        value.defined()?;
        if let Some(attribute) = self.own_attribute(value, name)? {
            return Ok(attribute);
        }
        if let Value::Dict(dict) = value
            && let Some(item) = dict.get_str(name)
        {
            return Ok(item.clone());
        }
        self.budget.bytes(UNDEFINED_BYTES)?;
        Ok(missing_attribute(value, name))
    }

    /// `value[key]`: an item before Python's attribute of that name.
    pub(super) fn item(&mut self, value: &Value, key: &Value) -> Result<Value> {
        value.defined()?;
        if let Some(item) = operators::item(self.budget, value, key)? {
            return Ok(item);
        }
        self.budget.bytes(UNDEFINED_BYTES)?;
        if let Value::Text(name) = key {
            return Ok(match self.own_attribute(value, name.shared())? {
                Some(attribute) => attribute,
                None => missing_attribute(value, name.shared()),
            });
        }
        let key = print::repr(self.budget, key)?;
        let (ty, key) = (value.type_name(), short(key.as_str()));
        Ok(Value::undefined(format_args!("'{ty} object' has no element {key}")))
    }

    /// Python's attribute, if there is one. Pays for reading `name`, also for the caller.
    pub(super) fn own_attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Option<Value>> {
        self.budget.steps(name.len() / 32)?;
        Ok(match value {
            Value::Namespace(id) => self.namespaces[*id].get(name).cloned(),
            Value::Loop(id) => self.loop_attribute(*id, name)?,
            Value::List(list) if list.row == Row::Group => match &**name {
                "grouper" => Some(list.items[0].clone()),
                "list" => Some(list.items[1].clone()),
                _ => None,
            },
            Value::Cycler(cycler) if &**name == "current" => Some(cycler.items[cycler.at.get()].clone()),
            Value::Macro(callee) if &**name == "name" => Some(Value::own(Arc::clone(&callee.decl.name))),
            _ => None,
        })
        .and_then(|attribute| match attribute {
            None if methods::is_method(value, name) => Value::method(value.clone(), name).map(Some),
            attribute => Ok(attribute),
        })
    }

    fn loop_attribute(&mut self, id: usize, name: &Arc<str>) -> Result<Option<Value>> {
        let int = |value: usize| Value::Int(value as i128);
        let running = self.running(id)?;
        let (index, depth) = (running.index, running.depth);
        Ok(Some(match &**name {
            "index" => int(index + 1),
            "index0" => int(index),
            "first" => Value::Bool(index == 0),
            "depth" => int(depth + 1),
            "depth0" => int(depth),
            "length" => int(self.loop_len(id)?),
            "revindex" => int(self.loop_len(id)? - index),
            "revindex0" => int(self.loop_len(id)? - index - 1),
            "last" => Value::Bool(self.loop_ahead(id)?.is_none()),
            "nextitem" => match self.loop_ahead(id)? {
                Some(item) => item,
                None => Value::undefined("there is no next item"),
            },
            "previtem" => match &running.previous {
                Some(item) => item.clone(),
                None => Value::undefined("there is no previous item"),
            },
            _ => return Ok(None),
        }))
    }

    pub(super) fn call(&mut self, callee: &Value, arguments: Arguments) -> Result<Value> {
        let budget = self.budget;
        match callee {
            Value::Macro(callee) => self.call_macro(callee, arguments),
            Value::Method(method) => self.call_method(&method.0, &method.1, arguments),
            Value::Loop(id) => self.recurse(*id, arguments),
            Value::Joiner(joiner) => {
                arguments.bind("joiner", [], 0)?;
                let is_used = joiner.is_used.replace(true);
                Ok(if is_used { joiner.separator.clone() } else { Value::own("") })
            }
            Value::Function(Function::Range) => {
                let arguments = arguments.unnamed("range")?;
                let mut bounds = Vec::with_capacity(3);
                for argument in &arguments {
                    let bound = i64::try_from(argument.expect_int("an argument of range")?);
                    bounds.push(bound.map_err(|_| fault!("an argument of range is too large"))?);
                }
                let (start, stop, step) = match bounds[..] {
                    [stop] => (0, stop, 1),
                    [start, stop] => (start, stop, 1),
                    [start, stop, step] => (start, stop, step),
                    _ => return Err(fault!("range needs 1 to 3 arguments")),
                };
                let range = Range { start, stop, step };
                if step == 0 {
                    return Err(fault!("range() arg 3 must not be zero"));
                }
                if range.len() > MAX_RANGE {
                    return Err(fault!("range is longer than {MAX_RANGE}"));
                }
                Ok(Value::Range(range))
            }
            Value::Function(Function::Dict) => Ok(Value::dict(self.make_dict("dict", arguments)?)),
            Value::Function(Function::Namespace) => {
                let dict = self.make_dict("namespace", arguments)?;
                budget.bytes(2 * VALUE_BYTES)?;
                let mut names = std::collections::HashMap::new();
                for (name, value) in dict.entries() {
                    budget.bytes(2 * VALUE_BYTES)?;
                    names.insert(Arc::clone(name.expect_text("a name")?.shared()), value.clone());
                }
                self.namespaces.push(names);
                Ok(Value::Namespace(self.namespaces.len() - 1))
            }
            Value::Function(Function::Cycler) => {
                let items = arguments.unnamed("cycler")?;
                if items.is_empty() {
                    return Err(fault!("cycler needs at least one item"));
                }
                Value::cycler(items)
            }
            Value::Function(Function::Joiner) => {
                let [separator] = arguments.bind("joiner", ["sep"], 0)?;
                Value::joiner(separator.unwrap_or_else(|| Value::own(", ")))
            }
            Value::Function(Function::RaiseException) => {
                let [message] = arguments.bind("raise_exception", ["message"], 1)?;
                let message = print::str(budget, &message.unwrap_or(Value::None))?;
                Err(fault!("the template refuses this conversation: {}", message.as_str()))
            }
            Value::Function(Function::StrftimeNow) => {
                let [format] = arguments.bind("strftime_now", ["format"], 1)?;
                let format = format.unwrap_or(Value::None);
                Ok(Value::Text(dates::now(budget, format.expect_text("strftime_now's format")?)?))
            }
            Value::Undefined(why) => Err(fault!("{why}")),
            _ => Err(fault!("'{}' object is not callable", callee.type_name())),
        }
    }

    /// The dictionary of a call of `dict`: that of a dictionary or of pairs, and of the names.
    fn make_dict(&mut self, callee: &str, arguments: Arguments) -> Result<Dict> {
        let budget = self.budget;
        let Arguments { positional, keyword } = arguments;
        let mut dict = Dict::new();
        if positional.len() > 1 {
            return Err(fault!("{callee} expected at most 1 argument, got {}", positional.len()));
        }
        match positional.first() {
            None => {}
            Some(Value::Dict(other)) => {
                for (key, value) in other.entries() {
                    dict.insert(budget, key.clone(), value.clone())?;
                }
            }
            Some(pairs) => {
                pairs.defined()?;
                for pair in operators::items(budget, pairs)? {
                    let mut pair = operators::items(budget, &pair)?.into_iter();
                    match (pair.next(), pair.next(), pair.next()) {
                        (Some(key), Some(value), None) => dict.insert(budget, key, value)?,
                        _ => return Err(fault!("{callee} needs pairs")),
                    }
                }
            }
        }
        for (name, value) in keyword {
            dict.insert(budget, Value::Text(name), value)?;
        }
        Ok(dict)
    }
}

fn compare(interpreter: &Interpreter<'_>, op: CompareOp, a: &Value, b: &Value) -> Result<bool> {
    let budget = interpreter.budget;
    let order = || operators::partial_order(budget, a, b);
    Ok(match op {
        CompareOp::Eq => operators::equal(budget, a, b)?,
        CompareOp::Ne => !operators::equal(budget, a, b)?,
        CompareOp::Lt => order()?.is_some_and(|order| order.is_lt()),
        CompareOp::Le => order()?.is_some_and(|order| order.is_le()),
        CompareOp::Gt => order()?.is_some_and(|order| order.is_gt()),
        CompareOp::Ge => order()?.is_some_and(|order| order.is_ge()),
        CompareOp::In => operators::contains(budget, b, a)?,
        CompareOp::NotIn => !operators::contains(budget, b, a)?,
    })
}

fn missing_attribute(value: &Value, name: &str) -> Value {
    if methods::is_refused(value, name) {
        return Value::undefined(format_args!(
            "access to attribute '{name}' of '{}' object is unsafe",
            value.type_name()
        ));
    }
    Value::undefined(format_args!("'{} object' has no attribute '{}'", value.type_name(), short(name)))
}
