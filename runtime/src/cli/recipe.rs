//! What becomes of matrices, besides the type that they are to have.

use std::path::PathBuf;
use std::sync::Arc;

use super::Result;
use crate::gguf::Formats;
use crate::imatrix::Imatrix;
use crate::quantize::{Recipe, tensor_type};

#[derive(clap::Args)]
pub struct RecipeArgs {
    /// All matrices in the type, and none in the better one that llama.cpp's rules give it
    #[arg(long)]
    pure: bool,
    /// Another type for matrices in whose name NAME is found, a regular expression as in llama.cpp; may be repeated, and
    /// the first that is found counts
    #[arg(long, value_name = "NAME=TYPE")]
    tensor_type: Vec<String>,
    /// The type of output.weight, or of the token embedding where that is both
    #[arg(long, value_name = "TYPE")]
    output_tensor_type: Option<String>,
    /// The type of token_embd.weight
    #[arg(long, value_name = "TYPE")]
    token_embedding_type: Option<String>,
    /// Quantize matrices again that are quantized already, which loses a little more
    #[arg(long)]
    allow_requantize: bool,
    /// Importance matrix, as `imatrix` or llama.cpp writes them: how much the errors of columns count
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
}

impl RecipeArgs {
    /// The importance matrix, where there is one.
    pub fn importance(&self) -> Result<Option<Arc<Imatrix>>> {
        Ok(self.imatrix.as_ref().map(|path| Imatrix::open(path).map(Arc::new)).transpose()?)
    }

    /// Changes `recipe` as the flags say.
    pub fn apply(&self, recipe: &mut Recipe, formats: &Formats, importance: Option<&Arc<Imatrix>>) -> Result {
        let type_of = |flag: &str, name: &str| {
            tensor_type(name, formats).map_err(|problem| format!("{flag}: {problem}"))
        };
        for exception in &self.tensor_type {
            let (pattern, ty) = exception
                .rsplit_once('=')
                .filter(|(pattern, _)| !pattern.is_empty())
                .ok_or_else(|| format!("--tensor-type: {exception:?} is not of the form NAME=TYPE"))?;
            let ty = type_of("--tensor-type", ty)?;
            recipe.set_type(pattern, ty).map_err(|problem| format!("--tensor-type: {problem}"))?;
        }
        let fixed = |flag, name: &Option<String>| name.as_ref().map(|name| type_of(flag, name)).transpose();
        recipe.pure = self.pure;
        recipe.output = fixed("--output-tensor-type", &self.output_tensor_type)?;
        recipe.token_embedding = fixed("--token-embedding-type", &self.token_embedding_type)?;
        recipe.requantize = self.allow_requantize;
        recipe.imatrix = importance.cloned();
        Ok(())
    }
}
