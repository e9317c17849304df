//! The syntax tree of a declaration, with the user's spans. Shape only: names and numbers are looked
//! at by `check`.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Ident, LitInt, MacroDelimiter, MetaList, Token, Visibility, braced, bracketed};

mod keyword {
    syn::custom_keyword!(block);
    syn::custom_keyword!(by);
    syn::custom_keyword!(codebook);
    syn::custom_keyword!(gguf);
    syn::custom_keyword!(quantize);
    syn::custom_keyword!(table);
}

/// Everything inside one `quant_format! { … }`.
pub struct Declarations {
    pub list: Option<List>,
    pub formats: Vec<Format>,
}

/// `pub table FORMATS;`
pub struct List {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
}

/// `pub block Q4_0[32] = gguf 2 { … }`
pub struct Format {
    pub attrs: Vec<Attribute>,
    pub vis: Visibility,
    pub name: Ident,
    pub len: LitInt,
    pub gguf: Option<LitInt>,
    /// Its syntax errors don't stop the formats after it from being read.
    pub body: syn::Result<Body>,
}

/// What stands between the braces.
pub struct Body {
    pub fields: Vec<Field>,
    pub tables: Vec<Table>,
    pub codebooks: Vec<Codebook>,
    pub codes: Vec<Codes>,
    pub weight: Expr,
    /// `quantize by furthest;`
    pub quantize: Option<Ident>,
}

/// `qs: [u8; 16],`
pub struct Field {
    pub attrs: Vec<Attribute>,
    pub name: Ident,
    pub ty: Ident,
    /// Array length; `None` for a single value.
    pub count: Option<LitInt>,
}

/// `table NL = [-127, -104, …];`, or several of which a code chooses one, `table NL = [[-127, …], [-123, …]];`
pub struct Table {
    pub name: Ident,
    pub entries: Entries,
}

/// The entries of a table, or of each of several.
pub enum Entries {
    One(Punctuated<Expr, Token![,]>),
    Several(Vec<Punctuated<Expr, Token![,]>>),
}

/// `codebook GRID: [[i8; 8]; 256] = path::TO_A_CONSTANT;`
pub struct Codebook {
    pub name: Ident,
    /// Weights of an entry.
    pub weights: LitInt,
    pub entries: LitInt,
    /// The entries, an expression of the caller's.
    pub value: TokenStream,
}

/// `q[h: 2, i: 16] = qs[i] >> 4 * h & 15;`, of several pieces `q[…] = …, […] = …;`
pub struct Codes {
    pub name: Ident,
    pub pieces: Vec<Piece>,
}

/// `[h: 2, i: 16] = qs[i] >> 4 * h & 15`
pub struct Piece {
    pub digits: Punctuated<Digit, Token![,]>,
    pub value: Expr,
}

/// `h: 2`
pub struct Digit {
    pub name: Ident,
    pub radix: LitInt,
}

impl Parse for Declarations {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let mut declarations = Self { list: None, formats: Vec::new() };
        while !input.is_empty() {
            let attrs = input.call(Attribute::parse_outer)?;
            let vis: Visibility = input.parse()?;
            if input.peek(keyword::table) {
                let keyword: keyword::table = input.parse()?;
                let list = List { attrs, vis, name: input.parse()? };
                input.parse::<Token![;]>()?;
                if declarations.list.replace(list).is_some() {
                    return Err(syn::Error::new(
                        keyword.span,
                        "a second `table`: one list holds every format, remove the other",
                    ));
                }
            } else if input.peek(keyword::block) {
                declarations.formats.push(Format::parse(attrs, vis, input)?);
            } else {
                return Err(input.error("expected `block NAME[weights] = gguf ID { … }` or `table NAME;`"));
            }
        }
        Ok(declarations)
    }
}

impl Format {
    fn parse(attrs: Vec<Attribute>, vis: Visibility, input: ParseStream) -> syn::Result<Self> {
        input.parse::<keyword::block>()?;
        let name: Ident = input.parse()?;
        let length;
        bracketed!(length in input);
        let len = count(&length)?;
        let gguf = if input.parse::<Option<Token![=]>>()?.is_some() {
            input.parse::<keyword::gguf>()?;
            Some(count(input)?)
        } else {
            None
        };
        let body;
        let delimiter = MacroDelimiter::Brace(braced!(body in input));
        // An attribute's arguments are what syn can parse by themselves: an error stays in there.
        let body = MetaList { path: name.clone().into(), delimiter, tokens: body.parse()? };
        let body = body.parse_args_with(|body: ParseStream| Body::parse(&name, body));
        Ok(Self { attrs, vis, name, len, gguf, body })
    }
}

impl Body {
    fn parse(name: &Ident, body: ParseStream) -> syn::Result<Self> {
        let (mut fields, mut tables, mut codebooks) = (Vec::new(), Vec::new(), Vec::new());
        let (mut codes, mut weight, mut quantize) = (Vec::new(), None, None);
        while !body.is_empty() {
            let attrs = body.call(Attribute::parse_outer)?;
            if body.peek(keyword::table) && body.peek2(Ident) {
                refuse_attributes(&attrs)?;
                tables.push(body.parse()?);
            } else if body.peek(keyword::codebook) && body.peek2(Ident) {
                refuse_attributes(&attrs)?;
                codebooks.push(body.parse()?);
            } else if body.peek(keyword::quantize) && body.peek2(keyword::by) {
                refuse_attributes(&attrs)?;
                let keyword: keyword::quantize = body.parse()?;
                body.parse::<keyword::by>()?;
                let word: Ident = body.parse()?;
                body.parse::<Token![;]>()?;
                if quantize.replace(word).is_some() {
                    return Err(syn::Error::new(keyword.span, "a second quantizer: a block has one"));
                }
            } else if body.peek2(Token![:]) {
                fields.push(Field::parse(attrs, body)?);
            } else if body.peek2(syn::token::Bracket) {
                refuse_attributes(&attrs)?;
                codes.push(body.parse()?);
            } else {
                refuse_attributes(&attrs)?;
                let name: Ident = body.parse().map_err(|error| {
                    syn::Error::new(
                        error.span(),
                        "expected a field `name: type,`, codes `q[i: 32] = …;`, a `table NAME = […];`, a `codebook NAME: [[i8; 8]; 256] = …;`, `quantize by WORD;` or the weight `w = …;`",
                    )
                })?;
                if name != "w" {
                    return Err(syn::Error::new(
                        name.span(),
                        format!(
                            "`{name}` is neither a field (`{name}: u8,`) nor codes (`{name}[i: 32] = …;`); the weight is called `w`"
                        ),
                    ));
                }
                body.parse::<Token![=]>()?;
                let formula = expression(body)?;
                body.parse::<Token![;]>()?;
                if weight.replace(formula).is_some() {
                    return Err(syn::Error::new(name.span(), "a second formula for `w`: a block has one"));
                }
            }
        }
        let weight = weight.ok_or_else(|| {
            syn::Error::new(name.span(), format!("`{name}` has no formula for its weights: add `w = …;`"))
        })?;
        Ok(Self { fields, tables, codebooks, codes, weight, quantize })
    }
}

impl Field {
    fn parse(attrs: Vec<Attribute>, input: ParseStream) -> syn::Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let (ty, count) = if input.peek(syn::token::Bracket) {
            let array;
            bracketed!(array in input);
            let ty = array.parse()?;
            array.parse::<Token![;]>()?;
            (ty, Some(count(&array)?))
        } else {
            (input.parse()?, None)
        };
        input.parse::<Token![,]>()?;
        Ok(Self { attrs, name, ty, count })
    }
}

impl Parse for Table {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        input.parse::<keyword::table>()?;
        let name = input.parse()?;
        input.parse::<Token![=]>()?;
        let list;
        bracketed!(list in input);
        let entries = if list.peek(syn::token::Bracket) {
            let table = |list: ParseStream| {
                let entries;
                bracketed!(entries in list);
                entries.parse_terminated(expression, Token![,])
            };
            Entries::Several(list.parse_terminated(table, Token![,])?.into_iter().collect())
        } else {
            Entries::One(list.parse_terminated(expression, Token![,])?)
        };
        input.parse::<Token![;]>()?;
        Ok(Self { name, entries })
    }
}

impl Table {
    /// The entries of all tables, one after the other.
    pub fn values(&self) -> impl Iterator<Item = &Expr> {
        let tables = match &self.entries {
            Entries::One(entries) => std::slice::from_ref(entries),
            Entries::Several(tables) => tables,
        };
        tables.iter().flatten()
    }
}

impl Parse for Codebook {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        input.parse::<keyword::codebook>()?;
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let (outer, inner);
        bracketed!(outer in input);
        bracketed!(inner in outer);
        let ty: Ident = inner.parse()?;
        if ty != "i8" {
            return Err(syn::Error::new(ty.span(), "the weights of a codebook are `i8`"));
        }
        inner.parse::<Token![;]>()?;
        let weights = count(&inner)?;
        outer.parse::<Token![;]>()?;
        let entries = count(&outer)?;
        input.parse::<Token![=]>()?;
        // The compiler reads them; `syn` would need a grammar of all Rust.
        let mut value = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![;]) {
            value.extend([input.parse::<TokenTree>()?]);
        }
        if value.is_empty() {
            return Err(input.error("expected the codebook's entries, an array or the path of a constant"));
        }
        input.parse::<Token![;]>()?;
        Ok(Self { name, weights, entries, value })
    }
}

impl Parse for Codes {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.parse()?;
        let mut pieces = vec![input.parse()?];
        while input.parse::<Option<Token![,]>>()?.is_some() {
            pieces.push(input.parse()?);
        }
        input.parse::<Token![;]>()?;
        Ok(Self { name, pieces })
    }
}

impl Parse for Piece {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let digits;
        bracketed!(digits in input);
        let digits = digits.parse_terminated(Digit::parse, Token![,])?;
        input.parse::<Token![=]>()?;
        Ok(Self { digits, value: expression(input)? })
    }
}

impl Parse for Digit {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(Self { name, radix: count(input)? })
    }
}

/// A formula, an entry of a table, or planes.
fn expression(input: ParseStream) -> syn::Result<Expr> {
    input.parse().map_err(|error: syn::Error| {
        // syn knows the rest of Rust where a feature is on that costs every user of the macro compile time.
        if error.to_string().starts_with("unsupported expression") {
            let message = "a formula is made of names, numbers, indices, operators and calls: nothing else of Rust goes in it";
            return syn::Error::new(error.span(), message);
        }
        error
    })
}

/// A count of a declaration.
fn count(input: ParseStream) -> syn::Result<LitInt> {
    input.parse().map_err(|error: syn::Error| {
        let message = "expected a whole number, written out: a macro does not know what a constant is";
        syn::Error::new(error.span(), message)
    })
}

/// Whether an attribute of a declaration may go with the generated code.
pub fn is_doc(attr: &Attribute) -> bool {
    attr.path().is_ident("doc") || attr.path().is_ident("allow")
}

fn refuse_attributes(attrs: &[Attribute]) -> syn::Result<()> {
    match attrs.first() {
        Some(attr) => {
            let span: Span = attr.pound_token.span;
            Err(syn::Error::new(
                span,
                "attributes and doc comments belong to formats and fields; use `//` here",
            ))
        }
        None => Ok(()),
    }
}
