//! The tree of a template, by recursive descent along Jinja2's grammar.
//!
//! From loose to tight, an expression is: `x if y else z`, `or`, `and`, `not`, comparisons, `+ -`, `~`, `* / // %`,
//! `**`, a sign, then what follows an operand (`.name`, `[item]`, calls), then filters and tests. Each level is one
//! function; each way down to itself is counted, so that no template is deeper than the stack.

use std::collections::HashSet;
use std::sync::Arc;

use super::ast::{
    Arguments, BinaryOp, Block, CompareOp, Expr, ExprKind, For, MAX_DEPTH, Macro, Stmt, StmtKind, Target,
    UnaryOp,
};
use super::budget::{Result, TemplateError, fault};
use super::lexer::{Lexer, Token, normalized};

/// Words that begin or end a statement elsewhere in Jinja2 and are refused here, with why.
const OTHER_TEMPLATES: [&str; 4] = ["include", "import", "from", "extends"];

/// The longest template: ten times the longest that models have.
const MAX_BYTES: usize = 512 << 10;

/// `source` as statements.
pub(super) fn parse(source: &str) -> Result<Block> {
    if source.len() > MAX_BYTES {
        let max = MAX_BYTES >> 10;
        return Err(fault!("the template is longer than {max} KiB; that is too much for a chat template"));
    }
    let source = normalized(source);
    let mut lexer = Lexer::new(&source);
    let (line, token) = lexer.next()?;
    let (ahead_line, ahead) = lexer.next()?;
    let mut parser = Parser { lexer, line, token, ahead_line, ahead, depth: 0, loops: 0, used: Vec::new() };
    parser.block(&[]).map(|(block, _)| block)
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    line: u32,
    token: Token,
    /// The token after the current one.
    ahead_line: u32,
    ahead: Token,
    depth: u16,
    /// How many loops are open in this macro or template.
    loops: usize,
    /// For each open macro which of `varargs`, `kwargs` and `caller` its body names.
    used: Vec<[bool; 3]>,
}

const MACRO_EXTRAS: [&str; 3] = ["varargs", "kwargs", "caller"];

impl Parser<'_> {
    fn error(&self, problem: impl std::fmt::Display) -> TemplateError {
        fault!("syntax error: {problem}").at(self.line)
    }

    fn unexpected(&self, expected: &str) -> TemplateError {
        self.error(format_args!("unexpected {}, expected {expected}", self.describe()))
    }

    fn describe(&self) -> String {
        match &self.token {
            Token::Data(_) => "text".into(),
            Token::OutputBegin => "`{{`".into(),
            Token::OutputEnd => "`}}`".into(),
            Token::BlockBegin => "`{%`".into(),
            Token::BlockEnd => "`%}`".into(),
            Token::Name(name) => format!("`{name}`"),
            Token::Text(_) => "a string".into(),
            Token::Int(_) | Token::Float(_) => "a number".into(),
            Token::Operator(operator) => format!("`{operator}`"),
            Token::End => "the end of the template".into(),
        }
    }

    /// The current token; the next one becomes current.
    fn take(&mut self) -> Result<Token> {
        self.line = self.ahead_line;
        let token = std::mem::replace(&mut self.token, std::mem::replace(&mut self.ahead, Token::End));
        // At the end a token follows for ever.
        (self.ahead_line, self.ahead) =
            if self.token == Token::End { (self.line, Token::End) } else { self.lexer.next()? };
        Ok(token)
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token, Token::Operator(token) if token == operator)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(&self.token, Token::Name(token) if **token == *name)
    }

    fn is_ahead(&self, token: &Token) -> bool {
        self.ahead == *token
    }

    /// Takes `operator`, if it is current.
    fn skip(&mut self, operator: &str) -> Result<bool> {
        let is = self.is(operator);
        if is {
            self.take()?;
        }
        Ok(is)
    }

    fn skip_name(&mut self, name: &str) -> Result<bool> {
        let is = self.is_name(name);
        if is {
            self.take()?;
        }
        Ok(is)
    }

    fn expect(&mut self, operator: &str) -> Result<()> {
        if self.skip(operator)? { Ok(()) } else { Err(self.unexpected(&format!("`{operator}`"))) }
    }

    fn expect_name(&mut self, name: &str) -> Result<()> {
        if self.skip_name(name)? { Ok(()) } else { Err(self.unexpected(&format!("`{name}`"))) }
    }

    fn expect_token(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.token != *token {
            return Err(self.unexpected(what));
        }
        self.take().map(drop)
    }

    fn any_name(&mut self) -> Result<Arc<str>> {
        match self.take_if_name()? {
            Some(name) => Ok(name),
            None => Err(self.unexpected("a name")),
        }
    }

    fn take_if_name(&mut self) -> Result<Option<Arc<str>>> {
        if !matches!(self.token, Token::Name(_)) {
            return Ok(None);
        }
        match self.take()? {
            Token::Name(name) => Ok(Some(name)),
            _ => Ok(None),
        }
    }

    /// One level down.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format_args!("nested more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    // Statements.

    /// Statements up to a tag that begins with one of `ends`, whose name is taken and returned; or all of them.
    fn block(&mut self, ends: &[&str]) -> Result<(Block, Arc<str>)> {
        let mut block = Block::new();
        loop {
            let line = self.line;
            match self.take()? {
                Token::Data(text) => block.push(Stmt { line, kind: StmtKind::Data(text) }),
                Token::OutputBegin => {
                    let expr = self.tuple(true, |_| false)?;
                    block.push(Stmt { line, kind: StmtKind::Output(expr) });
                    self.expect_token(&Token::OutputEnd, "`}}`")?;
                }
                Token::BlockBegin => {
                    let name = self.any_name()?;
                    if ends.contains(&&*name) {
                        return Ok((block, name));
                    }
                    if name.as_ref() == "print" {
                        self.print(&mut block, line)?;
                    } else {
                        let kind = self.deeper(|parser| parser.statement(&name, line))?;
                        block.push(Stmt { line, kind });
                    }
                    self.expect_token(&Token::BlockEnd, "`%}`")?;
                }
                Token::End if ends.is_empty() => return Ok((block, "".into())),
                Token::End => {
                    return Err(
                        self.error(format_args!("the template ends before `{}`", ends.join("` or `")))
                    );
                }
                _ => return Err(self.unexpected("text or a tag")),
            }
        }
    }

    /// The rest of a tag and the statements after it.
    fn body(&mut self, ends: &[&str]) -> Result<(Block, Arc<str>)> {
        self.skip(":")?;
        self.expect_token(&Token::BlockEnd, "`%}`")?;
        self.block(ends)
    }

    fn print(&mut self, block: &mut Block, line: u32) -> Result<()> {
        let mut is_first = true;
        while self.token != Token::BlockEnd {
            if !is_first {
                self.expect(",")?;
            }
            is_first = false;
            let expr = self.expr()?;
            block.push(Stmt { line, kind: StmtKind::Output(expr) });
        }
        Ok(())
    }

    fn statement(&mut self, name: &str, line: u32) -> Result<StmtKind> {
        Ok(match name {
            "if" => {
                let mut cases = Vec::new();
                loop {
                    let condition = self.tuple(false, |_| false)?;
                    let (body, end) = self.body(&["elif", "else", "endif"])?;
                    cases.push((condition, body));
                    match &*end {
                        "elif" => {}
                        "else" => break StmtKind::If(cases, self.body(&["endif"])?.0),
                        _ => break StmtKind::If(cases, Block::new()),
                    }
                }
            }
            "for" => {
                let target = self.target(|parser| parser.is_name("in"), false)?;
                self.expect_name("in")?;
                let iterable = self.tuple(false, |parser| parser.is_name("recursive"))?;
                let condition = if self.skip_name("if")? { Some(self.expr()?) } else { None };
                let is_recursive = self.skip_name("recursive")?;
                self.loops += 1;
                let (body, end) = self.body(&["else", "endfor"])?;
                self.loops -= 1;
                let otherwise = if &*end == "else" { self.body(&["endfor"])?.0 } else { Block::new() };
                StmtKind::For(Arc::new(For {
                    line,
                    target,
                    iterable,
                    condition,
                    is_recursive,
                    body,
                    otherwise,
                }))
            }
            "break" | "continue" if self.loops == 0 => {
                return Err(self.error(format_args!("`{name}` stands outside of a loop")));
            }
            "break" => StmtKind::Break,
            "continue" => StmtKind::Continue,
            "set" => {
                let target = self.target(|_| false, true)?;
                if self.skip("=")? {
                    StmtKind::Set(target, self.tuple(true, |_| false)?)
                } else {
                    let filter = self.filters(None)?;
                    StmtKind::SetBlock(target, filter, self.body(&["endset"])?.0)
                }
            }
            "macro" => {
                let name = self.any_name()?;
                let parameters = self.parameters()?;
                StmtKind::Macro(Arc::new(self.macro_body(name, parameters, "endmacro")?))
            }
            "call" => {
                let parameters = if self.is("(") { self.parameters()? } else { Vec::new() };
                let call = self.expr()?;
                if !matches!(call.kind, ExprKind::Call(..)) {
                    return Err(self.error("`call` needs a call"));
                }
                StmtKind::Call(call, Arc::new(self.macro_body("caller".into(), parameters, "endcall")?))
            }
            "filter" => {
                let first = self.filter(None)?;
                let filter = self.filters(Some(first))?.expect("there is one");
                StmtKind::Filter(filter, self.body(&["endfilter"])?.0)
            }
            "with" => {
                let mut values = Vec::new();
                while self.token != Token::BlockEnd {
                    if !values.is_empty() {
                        self.expect(",")?;
                    }
                    let target = self.target(|_| false, false)?;
                    self.expect("=")?;
                    values.push((target, self.expr()?));
                }
                StmtKind::With(values, self.body(&["endwith"])?.0)
            }
            "generation" => StmtKind::Scope(self.body(&["endgeneration"])?.0),
            "autoescape" => {
                let escapes = self.expr()?;
                if !matches!(escapes.kind, ExprKind::Bool(false)) {
                    return Err(self.error("only `autoescape false` is supported"));
                }
                StmtKind::Scope(self.body(&["endautoescape"])?.0)
            }
            "block" => {
                let name = self.any_name()?;
                self.skip_name("scoped")?;
                let body = self.body(&["endblock"])?.0;
                self.skip_name(&name)?;
                StmtKind::Scope(body)
            }
            _ if OTHER_TEMPLATES.contains(&name) => {
                return Err(self.error(format_args!("`{name}` needs other templates, and a model has one")));
            }
            _ => return Err(self.error(format_args!("unknown tag `{name}`"))),
        })
    }

    fn parameters(&mut self) -> Result<Vec<(Arc<str>, Option<Expr>)>> {
        self.expect("(")?;
        let mut parameters: Vec<(Arc<str>, Option<Expr>)> = Vec::new();
        let mut names = HashSet::new();
        while !self.is(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.any_name()?;
            if !names.insert(Arc::clone(&name)) {
                return Err(self.error(format_args!("two parameters are named `{name}`")));
            }
            let default = if self.skip("=")? { Some(self.expr()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return Err(self.error("a parameter without a default follows one with it"));
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }

    fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expr>)>,
        end: &str,
    ) -> Result<Macro> {
        self.used.push([false; 3]);
        let loops = std::mem::take(&mut self.loops);
        let body = self.body(&[end])?.0;
        self.loops = loops;
        let used = self.used.pop().expect("it was pushed");
        let is_parameter = |extra: &str| parameters.iter().any(|(name, _)| **name == *extra);
        let [takes_rest, takes_keyword_rest, takes_caller] =
            std::array::from_fn(|i| used[i] && !is_parameter(MACRO_EXTRAS[i]));
        Ok(Macro { name, parameters, body, takes_rest, takes_keyword_rest, takes_caller })
    }

    /// What is assigned to, up to `=`, the end of the tag or what `is_end` says.
    fn target(&mut self, is_end: impl Fn(&Self) -> bool + Copy, with_members: bool) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if self.is(")") || self.token == Token::BlockEnd || is_end(self) {
                break;
            }
            targets.push(self.single_target(with_members)?);
            if !self.skip(",")? {
                break;
            }
            is_tuple = true;
        }
        match targets.pop() {
            Some(target) if !is_tuple => Ok(target),
            None => Err(self.unexpected("a name")),
            Some(last) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
        }
    }

    fn single_target(&mut self, with_members: bool) -> Result<Target> {
        if self.skip("(")? {
            let target = self.deeper(|parser| parser.target(|_| false, with_members))?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.any_name()?;
        if matches!(&*name, "true" | "True" | "false" | "False" | "none" | "None") {
            return Err(self.error(format_args!("`{name}` can't be assigned to")));
        }
        if with_members && self.skip(".")? {
            return Ok(Target::Member(name, self.any_name()?));
        }
        Ok(Target::Name(name))
    }

    // Expressions.

    /// An expression, or several with commas between them: a tuple.
    fn tuple(&mut self, with_condition: bool, is_end: impl Fn(&Self) -> bool) -> Result<Expr> {
        let line = self.line;
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let ends = matches!(self.token, Token::OutputEnd | Token::BlockEnd) || self.is(")");
            if ends || is_end(self) {
                break;
            }
            items.push(if with_condition { self.expr()? } else { self.deeper(Self::or)? });
            if !self.skip(",")? {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(item) if !is_tuple => Ok(item),
            None => Err(self.unexpected("an expression")),
            Some(last) => {
                items.push(last);
                Expr::new(line, ExprKind::Tuple(items))
            }
        }
    }

    fn expr(&mut self) -> Result<Expr> {
        self.deeper(|parser| {
            let line = parser.line;
            let mut value = parser.or()?;
            while parser.skip_name("if")? {
                let condition = Box::new(parser.or()?);
                let otherwise = if parser.skip_name("else")? { Some(Box::new(parser.expr()?)) } else { None };
                value = Expr::new(line, ExprKind::Conditional(condition, Box::new(value), otherwise))?;
            }
            Ok(value)
        })
    }

    fn or(&mut self) -> Result<Expr> {
        let line = self.line;
        let mut left = self.and()?;
        while self.skip_name("or")? {
            left = Expr::new(line, ExprKind::Or(Box::new(left), Box::new(self.and()?)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let line = self.line;
        let mut left = self.not()?;
        while self.skip_name("and")? {
            left = Expr::new(line, ExprKind::And(Box::new(left), Box::new(self.not()?)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        let line = self.line;
        if self.skip_name("not")? {
            let negated = self.deeper(Self::not)?;
            return Expr::new(line, ExprKind::Unary(UnaryOp::Not, Box::new(negated)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr> {
        let line = self.line;
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match &self.token {
                Token::Operator("==") => CompareOp::Eq,
                Token::Operator("!=") => CompareOp::Ne,
                Token::Operator("<") => CompareOp::Lt,
                Token::Operator("<=") => CompareOp::Le,
                Token::Operator(">") => CompareOp::Gt,
                Token::Operator(">=") => CompareOp::Ge,
                Token::Name(name) if &**name == "in" => CompareOp::In,
                Token::Name(name) if &**name == "not" && self.is_ahead(&Token::Name("in".into())) => {
                    self.take()?;
                    CompareOp::NotIn
                }
                _ => break,
            };
            self.take()?;
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Expr::new(line, ExprKind::Compare(Box::new(first), rest))
    }

    fn sum(&mut self) -> Result<Expr> {
        self.binary(Self::concat, &[("+", BinaryOp::Add), ("-", BinaryOp::Sub)])
    }

    fn concat(&mut self) -> Result<Expr> {
        let line = self.line;
        let first = self.product()?;
        if !self.is("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip("~")? {
            parts.push(self.product()?);
        }
        Expr::new(line, ExprKind::Concat(parts))
    }

    fn product(&mut self) -> Result<Expr> {
        let ops =
            [("*", BinaryOp::Mul), ("/", BinaryOp::Div), ("//", BinaryOp::FloorDiv), ("%", BinaryOp::Mod)];
        self.binary(Self::power, &ops)
    }

    fn power(&mut self) -> Result<Expr> {
        self.binary(|parser| parser.unary(true), &[("**", BinaryOp::Pow)])
    }

    /// Operands with operators of one strength between them, from the left.
    fn binary(
        &mut self,
        operand: impl Fn(&mut Self) -> Result<Expr>,
        ops: &[(&str, BinaryOp)],
    ) -> Result<Expr> {
        let line = self.line;
        let mut left = operand(self)?;
        while let Token::Operator(token) = self.token
            && let Some(&(_, op)) = ops.iter().find(|(text, _)| *text == token)
        {
            self.take()?;
            left = Expr::new(line, ExprKind::Binary(op, Box::new(left), Box::new(operand(self)?)))?;
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr> {
        let line = self.line;
        let op = match self.token {
            Token::Operator("-") => Some(UnaryOp::Neg),
            Token::Operator("+") => Some(UnaryOp::Pos),
            _ => None,
        };
        let mut expr = match op {
            Some(op) => {
                self.take()?;
                let operand = self.deeper(|parser| parser.unary(false))?;
                Expr::new(line, ExprKind::Unary(op, Box::new(operand)))?
            }
            None => self.primary()?,
        };
        expr = self.postfix(expr)?;
        if with_filters { self.filters_and_tests(expr) } else { Ok(expr) }
    }

    fn primary(&mut self) -> Result<Expr> {
        let line = self.line;
        if !matches!(self.token, Token::Name(_) | Token::Text(_) | Token::Int(_) | Token::Float(_))
            && !self.is("(")
            && !self.is("[")
            && !self.is("{")
        {
            return Err(self.unexpected("an expression"));
        }
        let kind = match self.take()? {
            Token::Name(name) => match &*name {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                _ => {
                    if let Some(extra) = MACRO_EXTRAS.iter().position(|extra| **extra == *name)
                        && let Some(used) = self.used.last_mut()
                    {
                        used[extra] = true;
                    }
                    ExprKind::Name(name)
                }
            },
            Token::Text(mut text) => {
                while let Token::Text(more) = &self.token {
                    text.push_str(more);
                    self.take()?;
                }
                ExprKind::Text(text.into())
            }
            Token::Int(value) => ExprKind::Int(value),
            Token::Float(value) => ExprKind::Float(value),
            Token::Operator("(") => {
                if self.skip(")")? {
                    return Expr::new(line, ExprKind::Tuple(Vec::new()));
                }
                let inner = self.tuple(true, |_| false)?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Operator("[") => {
                let mut items = Vec::new();
                while !self.is("]") {
                    items.push(self.expr()?);
                    if !self.is("]") {
                        self.expect(",")?;
                    }
                }
                self.expect("]")?;
                ExprKind::List(items)
            }
            _ => {
                let mut items = Vec::new();
                while !self.is("}") {
                    let key = self.expr()?;
                    self.expect(":")?;
                    items.push((key, self.expr()?));
                    if !self.is("}") {
                        self.expect(",")?;
                    }
                }
                self.expect("}")?;
                ExprKind::Dict(items)
            }
        };
        Expr::new(line, kind)
    }

    fn postfix(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            let line = self.line;
            if self.skip(".")? {
                let kind = match self.take()? {
                    Token::Name(name) => ExprKind::Attribute(Box::new(expr), name),
                    Token::Int(index) => {
                        ExprKind::Item(Box::new(expr), Box::new(Expr::new(line, ExprKind::Int(index))?))
                    }
                    _ => return Err(self.error("a name or number must follow `.`")),
                };
                expr = Expr::new(line, kind)?;
            } else if self.skip("[")? {
                expr = self.subscript(expr, line)?;
            } else if self.is("(") {
                expr = self.call(expr)?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// The part in brackets, which are open, of `expr`.
    fn subscript(&mut self, expr: Expr, line: u32) -> Result<Expr> {
        let mut parts = [None, None, None];
        let mut colons = 0;
        while !self.is("]") {
            if self.skip(":")? {
                colons += 1;
                if colons > 2 {
                    return Err(self.unexpected("`]`"));
                }
            } else if parts[colons].is_none() && !self.is(",") {
                parts[colons] = Some(self.expr()?);
            } else {
                break;
            }
        }
        let kind = if colons > 0 {
            ExprKind::Slice(Box::new(expr), Box::new(parts))
        } else {
            let [first, ..] = parts;
            let Some(mut item) = first else { return Err(self.unexpected("an expression")) };
            if self.is(",") {
                let mut items = vec![item];
                while self.skip(",")? {
                    items.push(self.expr()?);
                }
                item = Expr::new(line, ExprKind::Tuple(items))?;
            }
            ExprKind::Item(Box::new(expr), Box::new(item))
        };
        self.expect("]")?;
        Expr::new(line, kind)
    }

    fn call(&mut self, callee: Expr) -> Result<Expr> {
        let line = self.line;
        let arguments = self.arguments()?;
        Expr::new(line, ExprKind::Call(Box::new(callee), Box::new(arguments)))
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        let mut names = HashSet::new();
        while !self.is(")") {
            let invalid = |parser: &Self| Err(parser.error("arguments stand in a wrong order"));
            let Arguments { positional, keyword, rest, keyword_rest } = &mut arguments;
            if self.skip("*")? {
                if rest.is_some() || keyword_rest.is_some() {
                    return invalid(self);
                }
                *rest = Some(self.expr()?);
            } else if self.skip("**")? {
                if keyword_rest.is_some() {
                    return invalid(self);
                }
                *keyword_rest = Some(self.expr()?);
            } else if matches!(self.token, Token::Name(_)) && self.is_ahead(&Token::Operator("=")) {
                if keyword_rest.is_some() {
                    return invalid(self);
                }
                let name = self.any_name()?;
                self.expect("=")?;
                if !names.insert(Arc::clone(&name)) {
                    return Err(self.error(format_args!("the argument `{name}` is given twice")));
                }
                keyword.push((name, self.expr()?));
            } else {
                if rest.is_some() || keyword_rest.is_some() || !keyword.is_empty() {
                    return invalid(self);
                }
                positional.push(self.expr()?);
            }
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }

    fn filters_and_tests(&mut self, mut expr: Expr) -> Result<Expr> {
        loop {
            if self.skip("|")? {
                expr = self.filter(Some(expr))?;
            } else if self.is_name("is") {
                expr = self.test(expr)?;
            } else if self.is("(") {
                expr = self.call(expr)?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// `expr` with the filters that follow it.
    fn filters(&mut self, mut expr: Option<Expr>) -> Result<Option<Expr>> {
        while self.skip("|")? {
            expr = Some(self.filter(expr)?);
        }
        Ok(expr)
    }

    /// A filter whose `|` is taken.
    fn filter(&mut self, expr: Option<Expr>) -> Result<Expr> {
        let line = self.line;
        let name = self.dotted_name()?;
        let arguments = if self.is("(") { self.arguments()? } else { Arguments::default() };
        Expr::new(line, ExprKind::Filter(expr.map(Box::new), name, Box::new(arguments)))
    }

    fn dotted_name(&mut self) -> Result<Arc<str>> {
        let first = self.any_name()?;
        if !self.is(".") {
            return Ok(first);
        }
        let mut name = String::from(&*first);
        while self.skip(".")? {
            name.push('.');
            name.push_str(&self.any_name()?);
        }
        Ok(name.into())
    }

    fn test(&mut self, expr: Expr) -> Result<Expr> {
        let line = self.line;
        self.take()?;
        let is_negated = self.skip_name("not")?;
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        let is_argument = match &self.token {
            Token::Name(name) if &**name == "is" => {
                return Err(self.error("tests can't be chained with `is`"));
            }
            Token::Name(name) => !matches!(&**name, "else" | "or" | "and"),
            Token::Text(_) | Token::Int(_) | Token::Float(_) => true,
            _ => self.is("[") || self.is("{"),
        };
        if self.is("(") {
            arguments = self.arguments()?;
        } else if is_argument {
            let argument = self.deeper(Self::primary)?;
            arguments.positional.push(self.postfix(argument)?);
        }
        let test = Expr::new(line, ExprKind::Test(Box::new(expr), name, Box::new(arguments)))?;
        if is_negated { Expr::new(line, ExprKind::Unary(UnaryOp::Not, Box::new(test))) } else { Ok(test) }
    }
}
