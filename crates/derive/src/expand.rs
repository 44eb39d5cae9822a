//! Writes `impl Record`.
//!
//! For each field there is a codec, its type, its name and a closure; the work is in the functions
//! of `headwater::record::__private`. Names of the type's field carry the field's span, so that
//! the compiler marks the field when its type is no column.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::input::{Column, Struct, Unit};

/// The implementation for a struct.
pub fn record(input: &Struct) -> TokenStream {
    let (ident, krate) = (&input.ident, &input.krate);
    let private = quote!(#krate::record::__private);
    let schema = schema(input, &private);
    let to_columns = to_columns(input, &private);
    let from_columns = from_columns(input, &private);
    let event_time = event_time(input, &private);
    quote! {
        #[automatically_derived]
        impl #krate::record::Record for #ident {
            fn schema() -> #private::SchemaRef {
                #schema
            }

            fn to_record_batch(&self) -> #private::RecordBatch {
                #private::single(self)
            }

            #event_time

            fn to_columns(
                rows: &[Self],
            ) -> ::core::result::Result<#private::RecordBatch, #krate::record::RecordError> {
                #to_columns
            }

            fn from_columns(
                batch: &#private::RecordBatch,
            ) -> ::core::result::Result<::std::vec::Vec<Self>, #krate::record::RecordError> {
                #from_columns
            }
        }
    }
}

fn schema(input: &Struct, private: &TokenStream) -> TokenStream {
    let fields = input.columns.iter().map(|column| {
        let name = &column.name;
        let types = types(column, input);
        quote_spanned!(column.ty.span()=> #private::field::<#types>(#name))
    });
    quote! {
        static SCHEMA: #private::OnceLock<#private::SchemaRef> = #private::OnceLock::new();
        SCHEMA.get_or_init(|| #private::schema(::std::vec![#(#fields),*])).clone()
    }
}

fn to_columns(input: &Struct, private: &TokenStream) -> TokenStream {
    let arrays = input.columns.iter().map(|column| {
        let Column { ident, name, .. } = column;
        let types = types(column, input);
        quote_spanned!(column.ty.span()=> #private::array::<#types, Self>(#name, rows, |row| &row.#ident)?)
    });
    quote! {
        #private::batch::<Self>(rows.len(), ::std::vec![#(#arrays),*])
    }
}

fn from_columns(input: &Struct, private: &TokenStream) -> TokenStream {
    let skipped = &input.skipped;
    let fields: Vec<_> = input.columns.iter().map(|column| &column.ident).collect();
    let opened: Vec<_> = (0..fields.len())
        .map(|i| format_ident!("column_{i}"))
        .collect();
    let opens = input.columns.iter().map(|column| {
        let name = &column.name;
        let types = types(column, input);
        quote_spanned!(column.ty.span()=> #private::open::<#types>(batch, #name))
    });
    quote! {
        match (#(#opens,)*) {
            (#(::core::result::Result::Ok(#opened),)*) => {
                let mut rows = ::std::vec::Vec::with_capacity(batch.num_rows());
                for row in 0..batch.num_rows() {
                    rows.push(Self {
                        #(#fields: #opened.get(row)?,)*
                        #(#skipped: ::core::default::Default::default(),)*
                    });
                }
                ::core::result::Result::Ok(rows)
            }
            (#(#opened,)*) => ::core::result::Result::Err(#private::refusal([#(#opened.err()),*])),
        }
    }
}

fn event_time(input: &Struct, private: &TokenStream) -> TokenStream {
    let Some(column) = input.columns.iter().find(|column| column.event_time) else {
        return TokenStream::new();
    };
    let ident = &column.ident;
    let types = types(column, input);
    let micros = quote_spanned!(column.ty.span()=> #private::event_time::<#types>(&self.#ident));
    quote! {
        fn event_time(&self) -> ::core::option::Option<i64> {
            #micros
        }
    }
}

/// The codec of a column and the type of its field.
fn types(column: &Column, input: &Struct) -> TokenStream {
    let (ty, krate) = (&column.ty, &input.krate);
    let unit = match column.timestamp {
        None => return quote_spanned!(ty.span()=> #krate::record::Plain, #ty),
        Some(Unit::Second) => quote!(TimestampSecondType),
        Some(Unit::Millisecond) => quote!(TimestampMillisecondType),
        Some(Unit::Microsecond) => quote!(TimestampMicrosecondType),
        Some(Unit::Nanosecond) => quote!(TimestampNanosecondType),
    };
    quote_spanned!(ty.span()=> #krate::record::InUnit<#krate::record::__private::types::#unit>, #ty)
}
