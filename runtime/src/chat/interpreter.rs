//! Runs the statements of a template.
//!
//! The tree is walked as it is. Names are looked up in scopes: each macro, loop pass, block and `with` has its own,
//! which knows the scope around it. Scopes, loops and namespaces live in lists of the interpreter and are known by
//! their numbers, so that a macro may keep the scope in which it was made and nothing owns itself.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::arguments::Arguments;
use super::ast::{Block, Expr, For, Macro as MacroDecl, Stmt, StmtKind, Target};
use super::budget::{Budget, Result, fault};
use super::operators;
use super::print;
use super::text::{Text, TextBuilder};
use super::value::{self, Function, UNDEFINED_BYTES, VALUE_BYTES, Value, short};

/// What a scope, a loop or a namespace costs, and a name in it.
const SCOPE_BYTES: usize = 128;
const NAME_BYTES: usize = 2 * VALUE_BYTES;

pub(super) struct Interpreter<'b> {
    pub budget: &'b Budget,
    scopes: Vec<Scope>,
    /// Where names are set.
    scope: usize,
    /// The loops that run, from the outside.
    loops: Vec<Loop>,
    next_loop: usize,
    pub namespaces: Vec<HashMap<Arc<str>, Value>>,
    /// The outermost output, and those of macros and blocks that are being gathered.
    outputs: Vec<TextBuilder<'b>>,
}

#[derive(Default)]
struct Scope {
    around: Option<usize>,
    names: HashMap<Arc<str>, Value>,
    /// Whether a macro may come back to it.
    is_kept: bool,
}

/// A loop that runs.
pub(super) struct Loop {
    pub id: usize,
    decl: Arc<For>,
    /// The scope around the loop.
    scope: usize,
    items: VecDeque<Value>,
    /// Items that were looked at before their turn and passed the loop's condition.
    ahead: VecDeque<Value>,
    pub index: usize,
    pub depth: usize,
    pub previous: Option<Value>,
    current: Option<Value>,
    pub changed: Option<Vec<Value>>,
}

/// How a statement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'b> Interpreter<'b> {
    /// An interpreter whose templates see `variables`.
    pub fn new(budget: &'b Budget, variables: HashMap<Arc<str>, Value>) -> Self {
        let globals = Scope { around: None, names: variables, is_kept: true };
        let top = Scope { around: Some(0), is_kept: true, ..Scope::default() };
        Self {
            budget,
            scopes: vec![globals, top],
            scope: 1,
            loops: Vec::new(),
            next_loop: 0,
            namespaces: Vec::new(),
            outputs: vec![TextBuilder::output(budget)],
        }
    }

    /// The text of the template and the ranges of it that are contents.
    pub fn render(mut self, template: &Block) -> Result<(String, Vec<Range<usize>>)> {
        self.block(template)?;
        Ok(self.outputs.pop().expect("the outermost output stays").into_parts())
    }

    // Scopes.

    pub fn lookup(&self, name: &str) -> Result<Value> {
        let mut scope = Some(self.scope);
        while let Some(place) = scope {
            self.budget.scan(name.len())?;
            let Scope { around, names, .. } = &self.scopes[place];
            if let Some(value) = names.get(name) {
                return Ok(value.clone());
            }
            scope = *around;
        }
        match Function::named(name) {
            Some(function) => Ok(Value::Function(function)),
            None => {
                self.budget.bytes(UNDEFINED_BYTES)?;
                Ok(Value::undefined(format_args!("'{}' is undefined", short(name))))
            }
        }
    }

    fn set(&mut self, name: &Arc<str>, value: Value) -> Result<()> {
        self.budget.bytes(NAME_BYTES)?;
        self.budget.steps(name.len() / 64)?;
        self.scopes[self.scope].names.insert(Arc::clone(name), value);
        Ok(())
    }

    /// What `run` does in a scope of its own, inside of `around`.
    fn in_scope<T>(&mut self, around: usize, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.budget.bytes(SCOPE_BYTES)?;
        let place = self.scopes.len();
        self.scopes.push(Scope { around: Some(around), ..Scope::default() });
        let outer = std::mem::replace(&mut self.scope, place);
        let result = run(self);
        self.scope = outer;
        if !self.scopes[place].is_kept {
            if place + 1 == self.scopes.len() {
                self.scopes.pop();
            } else {
                self.scopes[place].names = HashMap::new();
            }
        }
        result
    }

    /// Keeps the current scope and those around it, for a macro.
    fn keep_scope(&mut self) -> usize {
        let mut scope = Some(self.scope);
        while let Some(place) = scope
            && !self.scopes[place].is_kept
        {
            self.scopes[place].is_kept = true;
            scope = self.scopes[place].around;
        }
        self.scope
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Tuple(targets) => {
                let values = operators::items(self.budget, &value)?;
                if values.len() != targets.len() {
                    return Err(fault!("{} values can't be set to {} names", values.len(), targets.len()));
                }
                targets.iter().zip(values).try_for_each(|(target, value)| self.assign(target, value))
            }
            Target::Member(name, member) => match self.lookup(name)? {
                Value::Namespace(id) => {
                    self.budget.bytes(NAME_BYTES)?;
                    self.budget.steps(member.len() / 64)?;
                    self.namespaces[id].insert(Arc::clone(member), value);
                    Ok(())
                }
                _ => Err(fault!("`{name}` is no namespace, so `{name}.{member}` can't be set")),
            },
        }
    }

    // Statements.

    fn out(&mut self) -> &mut TextBuilder<'b> {
        self.outputs.last_mut().expect("the outermost output stays")
    }

    /// What `run` puts out.
    fn gathered(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<Text> {
        self.outputs.push(TextBuilder::new(self.budget));
        let result = run(self);
        let out = self.outputs.pop().expect("it was pushed");
        result?;
        self.budget.bytes(SCOPE_BYTES)?;
        out.finish()
    }

    fn block(&mut self, block: &Block) -> Result<Flow> {
        let budget = self.budget;
        let _level = budget.enter()?;
        for stmt in block {
            budget.steps(1)?;
            let flow = self.statement(stmt).map_err(|error| error.at(stmt.line))?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<Flow> {
        match &stmt.kind {
            StmtKind::Data(text) => self.out().push_own(text)?,
            StmtKind::Output(expr) => {
                let value = self.eval(expr)?;
                let budget = self.budget;
                print::write_str(self.out(), budget, &value)?;
            }
            StmtKind::Set(target, expr) => {
                let value = self.eval(expr)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock(target, filter, body) => {
                let scope = self.scope;
                let text = self.gathered(|this| this.in_scope(scope, |this| this.block(body).map(drop)))?;
                let mut value = Value::Text(text);
                if let Some(filter) = filter {
                    value = self.eval_filters(filter, value)?;
                }
                self.assign(target, value)?;
            }
            StmtKind::If(cases, otherwise) => {
                for (condition, body) in cases {
                    if self.eval(condition)?.is_true() {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            StmtKind::For(decl) => {
                let iterable = self.eval(&decl.iterable)?;
                self.run_loop(decl, &iterable, 0, self.scope)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Macro(decl) => {
                let value = self.make_macro(decl)?;
                self.set(&decl.name, value)?;
            }
            StmtKind::Call(call, body) => {
                let caller = self.make_macro(body)?;
                let value = self.eval_call_block(call, caller)?;
                let budget = self.budget;
                print::write_str(self.out(), budget, &value)?;
            }
            StmtKind::Filter(filter, body) => {
                let scope = self.scope;
                let text = self.gathered(|this| this.in_scope(scope, |this| this.block(body).map(drop)))?;
                let value = self.eval_filters(filter, Value::Text(text))?;
                let budget = self.budget;
                print::write_str(self.out(), budget, &value)?;
            }
            StmtKind::With(values, body) => {
                let outer = self.scope;
                return self.in_scope(outer, |this| {
                    for (target, expr) in values {
                        // The values do not see each other.
                        let inner = std::mem::replace(&mut this.scope, outer);
                        let value = this.eval(expr);
                        this.scope = inner;
                        this.assign(target, value?)?;
                    }
                    this.block(body)
                });
            }
            StmtKind::Scope(body) => {
                let scope = self.scope;
                return self.in_scope(scope, |this| this.block(body));
            }
        }
        Ok(Flow::Next)
    }

    // Loops.

    /// The loop of that number, if it still runs.
    pub fn running(&mut self, id: usize) -> Result<&mut Loop> {
        let running = self.loops.iter_mut().rev().find(|running| running.id == id);
        running.ok_or_else(|| fault!("the loop of this `loop` is over"))
    }

    /// Runs `decl` over `iterable`, in the scope `scope`.
    fn run_loop(&mut self, decl: &Arc<For>, iterable: &Value, depth: usize, scope: usize) -> Result<()> {
        let items = operators::items(self.budget, iterable)?;
        self.budget.bytes(2 * SCOPE_BYTES)?;
        let id = self.next_loop;
        self.next_loop += 1;
        self.loops.push(Loop {
            id,
            decl: Arc::clone(decl),
            scope,
            items: items.into(),
            ahead: VecDeque::new(),
            index: 0,
            depth,
            previous: None,
            current: None,
            changed: None,
        });
        let result = self.run_passes(decl, id, scope);
        self.loops.pop();
        if result? {
            return Ok(());
        }
        self.in_scope(scope, |this| this.block(&decl.otherwise).map(drop))
    }

    /// Whether a pass came to its end: `break` and `continue` are no end to Jinja2.
    fn run_passes(&mut self, decl: &Arc<For>, id: usize, scope: usize) -> Result<bool> {
        let mut is_first = true;
        let mut has_ended = false;
        loop {
            self.budget.steps(1)?;
            let item = match self.running(id)?.ahead.pop_front() {
                Some(item) => Some(item),
                None => self.next_item(id)?,
            };
            let Some(item) = item else { return Ok(has_ended) };
            let running = self.running(id)?;
            running.index += usize::from(!is_first);
            running.previous = running.current.replace(item.clone());
            is_first = false;
            let flow = self.in_scope(scope, |this| {
                this.assign(&decl.target, item)?;
                this.set(&"loop".into(), Value::Loop(id))?;
                this.block(&decl.body)
            })?;
            match flow {
                Flow::Next => has_ended = true,
                Flow::Continue => {}
                Flow::Break => return Ok(has_ended),
            }
        }
    }

    /// The next item of the loop that passes its condition.
    fn next_item(&mut self, id: usize) -> Result<Option<Value>> {
        loop {
            let running = self.running(id)?;
            let Some(item) = running.items.pop_front() else { return Ok(None) };
            let (decl, scope) = (Arc::clone(&running.decl), running.scope);
            let Some(condition) = &decl.condition else { return Ok(Some(item)) };
            self.budget.steps(1)?;
            let passes = self.in_scope(scope, |this| {
                this.assign(&decl.target, item.clone())?;
                Ok(this.eval(condition)?.is_true())
            })?;
            if passes {
                return Ok(Some(item));
            }
        }
    }

    /// The item after the current one.
    pub fn loop_ahead(&mut self, id: usize) -> Result<Option<Value>> {
        if self.running(id)?.ahead.is_empty()
            && let Some(item) = self.next_item(id)?
        {
            self.running(id)?.ahead.push_back(item);
        }
        Ok(self.running(id)?.ahead.front().cloned())
    }

    pub fn loop_len(&mut self, id: usize) -> Result<usize> {
        while let Some(item) = self.next_item(id)? {
            self.running(id)?.ahead.push_back(item);
        }
        let running = self.running(id)?;
        Ok(running.index + 1 + running.ahead.len())
    }

    /// `loop(iterable)`: the same loop, one level down.
    pub fn recurse(&mut self, id: usize, arguments: Arguments) -> Result<Value> {
        let [iterable] = arguments.bind("loop", ["iterable"], 1)?;
        let iterable = iterable.unwrap_or(Value::None);
        let running = self.running(id)?;
        let (decl, depth, scope) = (Arc::clone(&running.decl), running.depth, running.scope);
        if !decl.is_recursive {
            return Err(fault!("the loop must have the 'recursive' marker to be called recursively"));
        }
        let _level = self.budget.enter()?;
        let run = |this: &mut Self| this.run_loop(&decl, &iterable, depth + 1, scope);
        self.gathered(run).map(Value::Text).map_err(|error| error.at(decl.line))
    }

    // Macros.

    fn make_macro(&mut self, decl: &Arc<MacroDecl>) -> Result<Value> {
        self.budget.bytes(SCOPE_BYTES)?;
        let scope = self.keep_scope();
        Ok(Value::Macro(value::Macro { decl: Arc::clone(decl), scope }.into()))
    }

    pub fn call_macro(&mut self, callee: &value::Macro, mut arguments: Arguments) -> Result<Value> {
        let value::Macro { decl, scope } = callee;
        let name = &decl.name;
        let rest = arguments.positional.split_off(decl.parameters.len().min(arguments.positional.len()));
        if !rest.is_empty() && !decl.takes_rest {
            let most = decl.parameters.len();
            return Err(fault!("macro '{name}' takes not more than {most} argument(s)"));
        }
        let mut given = arguments.positional.into_iter();
        let budget = self.budget;
        let count = decl.parameters.len() + arguments.keyword.len();
        budget.steps(count)?;
        budget.product(2 * VALUE_BYTES, count)?;
        let mut places = HashMap::new();
        for (place, (name, _)) in arguments.keyword.iter().enumerate() {
            budget.scan(name.len())?;
            places.entry(Arc::clone(name.shared())).or_insert(place);
        }
        // A value is taken from its place once.
        let mut keyword: Vec<_> =
            arguments.keyword.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let mut named = |name: &str| -> Result<Option<Value>> {
            budget.steps(name.len() / 64)?;
            Ok(places.get(name).and_then(|&place| keyword[place].1.take()))
        };
        let mut values = Vec::with_capacity(decl.parameters.len());
        for (parameter, _) in &decl.parameters {
            values.push(match given.next() {
                Some(value) => Some(value),
                None => named(parameter)?,
            });
        }
        let caller = if decl.takes_caller { named("caller")? } else { None };
        if let Some((other, _)) = keyword.iter().find(|(_, value)| value.is_some())
            && !decl.takes_keyword_rest
        {
            return Err(fault!("macro '{name}' takes no keyword argument '{}'", other.as_str()));
        }
        let _level = budget.enter()?;
        let run = |this: &mut Self| {
            for ((parameter, default), value) in decl.parameters.iter().zip(values) {
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => this.eval(default)?,
                    (None, None) => {
                        Value::undefined(format_args!("parameter '{}' was not provided", short(parameter)))
                    }
                };
                this.set(parameter, value)?;
            }
            if decl.takes_caller {
                let none = || Value::undefined("No caller defined");
                this.set(&"caller".into(), caller.unwrap_or_else(none))?;
            }
            if decl.takes_rest {
                this.set(&"varargs".into(), Value::tuple(rest)?)?;
            }
            if decl.takes_keyword_rest {
                let mut dict = value::Dict::new();
                for (name, value) in keyword {
                    if let Some(value) = value {
                        dict.insert(budget, Value::Text(name), value)?;
                    }
                }
                this.set(&"kwargs".into(), Value::dict(dict))?;
            }
            this.block(&decl.body).map(drop)
        };
        self.gathered(|this| this.in_scope(*scope, run)).map(Value::Text)
    }

    /// The filters of a block, on its text.
    fn eval_filters(&mut self, filters: &Expr, text: Value) -> Result<Value> {
        let name: Arc<str> = "".into();
        let scope = self.scope;
        // The innermost filter of such an expression has no operand: it takes the block.
        self.in_scope(scope, |this| {
            this.set(&name, text)?;
            this.eval(filters)
        })
    }
}
