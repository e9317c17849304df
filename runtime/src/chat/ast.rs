//! A template as a tree.
//!
//! No tree is deeper than [`MAX_DEPTH`], so that walking and dropping it needs little stack.

use std::sync::Arc;

use super::budget::{Result, fault};

/// The deepest expression, and the deepest nesting of blocks.
pub(super) const MAX_DEPTH: u16 = 150;

#[derive(Debug)]
pub(super) struct Expr {
    pub line: u32,
    depth: u16,
    pub kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, Arc<str>),
    Item(Box<Expr>, Box<Expr>),
    /// Start, stop and step.
    Slice(Box<Expr>, Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Box<Arguments>),
    /// Without an expression: on the body of a block.
    Filter(Option<Box<Expr>>, Arc<str>, Box<Arguments>),
    Test(Box<Expr>, Arc<str>, Box<Arguments>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    Concat(Vec<Expr>),
    /// Condition, value where it holds, value where it does not.
    Conditional(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnaryOp {
    Not,
    Neg,
    Pos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expr>,
    pub keyword: Vec<(Arc<str>, Expr)>,
    /// After `*`.
    pub rest: Option<Expr>,
    /// After `**`.
    pub keyword_rest: Option<Expr>,
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    Tuple(Vec<Target>),
    /// A member of a namespace.
    Member(Arc<str>, Arc<str>),
}

#[derive(Debug)]
pub(super) struct Stmt {
    pub line: u32,
    pub kind: StmtKind,
}

pub(super) type Block = Vec<Stmt>;

#[derive(Debug)]
pub(super) enum StmtKind {
    Data(Arc<str>),
    Output(Expr),
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Block),
    If(Vec<(Expr, Block)>, Block),
    For(Arc<For>),
    Break,
    Continue,
    Macro(Arc<Macro>),
    /// The call, and the body as a macro.
    Call(Expr, Arc<Macro>),
    Filter(Expr, Block),
    With(Vec<(Target, Expr)>, Block),
    /// A body of its own scope: `generation`, `block`, `autoescape`.
    Scope(Block),
}

#[derive(Debug)]
pub(super) struct For {
    pub line: u32,
    pub target: Target,
    pub iterable: Expr,
    pub condition: Option<Expr>,
    pub is_recursive: bool,
    pub body: Block,
    pub otherwise: Block,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub body: Block,
    /// Whether the body asks for `varargs`, `kwargs` and `caller`; what it does not ask for is refused.
    pub takes_rest: bool,
    pub takes_keyword_rest: bool,
    pub takes_caller: bool,
}

impl Expr {
    pub fn new(line: u32, kind: ExprKind) -> Result<Self> {
        let depth = 1 + kind.children().map(|child| child.depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(fault!("the expression nests more than {MAX_DEPTH} deep").at(line));
        }
        Ok(Self { line, depth, kind })
    }
}

impl ExprKind {
    fn children(&self) -> Box<dyn Iterator<Item = &Expr> + '_> {
        use std::iter::{empty, once};
        match self {
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) | Self::Name(_) => {
                Box::new(empty())
            }
            Self::List(items) | Self::Tuple(items) | Self::Concat(items) => Box::new(items.iter()),
            Self::Dict(items) => Box::new(items.iter().flat_map(|(key, value)| [key, value])),
            Self::Attribute(of, _) | Self::Unary(_, of) => Box::new(once(&**of)),
            Self::Slice(of, parts) => Box::new(once(&**of).chain(parts.iter().flatten())),
            Self::Call(of, arguments) | Self::Test(of, _, arguments) => {
                Box::new(once(&**of).chain(arguments.children()))
            }
            Self::Filter(of, _, arguments) => Box::new(of.as_deref().into_iter().chain(arguments.children())),
            Self::Item(left, right)
            | Self::Binary(_, left, right)
            | Self::And(left, right)
            | Self::Or(left, right) => Box::new([&**left, &**right].into_iter()),
            Self::Compare(first, rest) => Box::new(once(&**first).chain(rest.iter().map(|(_, expr)| expr))),
            Self::Conditional(condition, value, otherwise) => {
                Box::new([&**condition, &**value].into_iter().chain(otherwise.as_deref()))
            }
        }
    }
}

impl Arguments {
    fn children(&self) -> impl Iterator<Item = &Expr> + '_ {
        let keyword = self.keyword.iter().map(|(_, expr)| expr);
        self.positional.iter().chain(keyword).chain(&self.rest).chain(&self.keyword_rest)
    }
}
