//! The SQL dialect: DataFusion's default, with a limit on backtracking.
//!
//! `sqlparser` tries an expression one way and, when that fails, another; an error within twenty
//! nested `CASE` would make it try a million ways. Every expression begins with a call of
//! [`Dialect::parse_prefix`], so [`LimitedDialect`] counts these calls and, when there are many more
//! than tokens, fails each with an error at which `sqlparser` does not backtrack. The search then
//! ends at once.
//!
//! It differs from `GenericDialect` in two other points: `/*! ... */` is a comment like any other, and AT TIME
//! ZONE is read as a call of a function.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use super::function_call::function_call;
use super::functions::AT_TIME_ZONE;

/// Expressions that may be begun for each token of a statement.
const TRIES_PER_TOKEN: usize = 4;
/// Expressions that may be begun besides those, however short the statement is.
const TRIES_MIN: usize = 10_000;

/// `GenericDialect` with a limit on the number of expressions that are begun.
#[derive(Debug)]
pub(super) struct LimitedDialect {
    /// The number of expressions that may still be begun; never grows.
    tries: Cell<usize>,
}

impl LimitedDialect {
    pub fn for_tokens(count: usize) -> Self {
        let tries = count
            .saturating_mul(TRIES_PER_TOKEN)
            .saturating_add(TRIES_MIN);
        Self {
            tries: Cell::new(tries),
        }
    }
}

macro_rules! as_generic {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool { GenericDialect.$name() })*
    };
}

impl Dialect for LimitedDialect {
    fn dialect(&self) -> TypeId {
        GenericDialect.dialect()
    }

    fn parse_prefix(&self, _parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.tries.get().checked_sub(1) {
            Some(left) => {
                self.tries.set(left);
                None
            }
            None => Some(Err(ParserError::RecursionLimitExceeded)),
        }
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let span = parser.peek_token_ref().span;
        if !parser.parse_keywords(&[Keyword::AT, Keyword::TIME, Keyword::ZONE]) {
            return None;
        }
        let zone = parser.parse_subexpr(precedence);
        Some(zone.map(|zone| function_call(AT_TIME_ZONE, span, [zone, expr.clone()])))
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        GenericDialect.is_delimited_identifier_start(c)
    }

    fn is_identifier_start(&self, c: char) -> bool {
        GenericDialect.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        GenericDialect.is_identifier_part(c)
    }

    // Everything that the generic dialect adds to the defaults, in its order.
    as_generic! {
        supports_unicode_string_literal supports_partition_by_after_order_by
        supports_array_join_syntax supports_group_by_expr supports_group_by_with_modifier
        supports_left_associative_joins_without_parens supports_connect_by
        supports_match_recognize supports_pipe_operator supports_start_transaction_modifier
        supports_window_function_null_treatment_arg supports_dictionary_syntax
        supports_window_clause_named_window_reference supports_parenthesized_set_variables
        supports_select_wildcard_except support_map_literal_syntax allow_extract_custom
        allow_extract_single_quotes supports_extract_comma_syntax
        supports_create_view_comment_syntax supports_parens_around_table_factor
        supports_values_as_table_factor supports_create_index_with_clause
        supports_explain_with_utility_options supports_limit_comma supports_update_order_by
        supports_from_first_select supports_projection_trailing_commas
        supports_asc_desc_in_column_definition supports_try_convert
        supports_bitwise_shift_operators supports_comment_on supports_load_extension
        supports_named_fn_args_with_assignment_operator supports_struct_literal
        supports_empty_projections supports_nested_comments supports_user_host_grantee
        supports_string_escape_constant supports_array_typedef_with_brackets
        supports_match_against supports_set_names supports_comma_separated_set_assignments
        supports_filter_during_aggregation supports_select_wildcard_exclude
        supports_data_type_signed_suffix supports_interval_options
        supports_quote_delimited_string supports_select_wildcard_replace
        supports_select_wildcard_ilike supports_select_wildcard_rename supports_optimize_table
        supports_install supports_detach supports_prewhere supports_with_fill supports_limit_by
        supports_interpolate supports_settings supports_select_format
        supports_comment_optimizer_hint supports_constraint_keyword_without_name
        supports_key_column_option supports_comma_separated_trim supports_cte_without_as
        supports_select_item_multi_column_alias supports_xml_expressions
    }
}
