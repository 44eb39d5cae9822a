//! `#[derive(Record)]`: a struct as Arrow columns, and back.
//!
//! ```text
//!   tokens --input--> Struct { columns } --expand--> impl Record for ...
//! ```
//!
//! `input` reads the struct and refuses, each at its token and all at once, what cannot be a row;
//! `expand` writes the implementation. Which Rust types are columns is not known here: the
//! generated code asks the traits of `headwater::record`, and the compiler answers for each field.
//! What the derive means to its user is documented on the trait `headwater::Record`.

mod expand;
mod input;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a struct a row of a stream; see the trait `headwater::Record` for fields and attributes.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(tokens: TokenStream) -> TokenStream {
    record(tokens.into()).into()
}

/// The implementation, or the errors as tokens.
fn record(tokens: proc_macro2::TokenStream) -> proc_macro2::TokenStream {
    match syn::parse2(tokens).and_then(input::Struct::read) {
        Ok(input) => expand::record(&input),
        Err(e) => e.into_compile_error(),
    }
}
