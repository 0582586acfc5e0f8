/* SPDX-License-Identifier: Apache-2.0
 *
 * Every kind of pre-tokenizer becomes a pattern with a behaviour, so that there is one loop. The
 * behaviours follow NormalizedString::split of Hugging Face's tokenizers, matches and gaps first
 * and joining afterwards.
 */
#include "text/pre_tokenizer.h"

#include <string.h>

#include "base/memory.h"
#include "text/json_field.h"
#include "text/utf8.h"

enum { DEPTH_MAX = 16 };

/* GPT-2's (github.com/openai/gpt-2, src/encoder.py), which ByteLevel brings along. */
static const char BYTE_LEVEL_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- Parsing ---- */

static um_status add_step(pre_tokenizer *p, const char *pattern, size_t n_bytes, bool is_literal,
                          split_behavior behavior, bool is_inverted, um_error *err) {
    if (memory_grow(&p->steps, &p->capacity, p->n_steps, sizeof *p->steps) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for a pre-tokenizer");
    pre_tokenizer_step step = {.behavior = behavior, .is_inverted = is_inverted};
    if (pattern) TRY(split_regex_create(pattern, n_bytes, is_literal, &step.regex, err));
    p->steps[p->n_steps++] = step;
    return UM_OK;
}

static um_status parse_split(const json_t *value, pre_tokenizer *p, um_error *err) {
    static const struct {
        const char *name;
        split_behavior behavior;
    } behaviors[] = {{"Isolated", SPLIT_BEHAVIOR_ISOLATED},
                     {"Removed", SPLIT_BEHAVIOR_REMOVED},
                     {"MergedWithPrevious", SPLIT_BEHAVIOR_MERGED_WITH_PREVIOUS},
                     {"MergedWithNext", SPLIT_BEHAVIOR_MERGED_WITH_NEXT},
                     {"Contiguous", SPLIT_BEHAVIOR_CONTIGUOUS}};
    const json_t *pattern = json_object_get(value, "pattern");
    if (!json_is_object(pattern))
        FAIL(UM_FORMAT, err, "Split.pattern is %s; an object is expected",
             json_field_kind(pattern));
    bool is_literal = json_object_get(pattern, "String") != NULL;
    const char *text, *behavior;
    size_t n_bytes, n_behavior;
    TRY(json_field_string(pattern, "Split.pattern", is_literal ? "String" : "Regex", true, &text,
                          &n_bytes, err));
    TRY(json_field_string(value, "Split", "behavior", true, &behavior, &n_behavior, err));
    bool is_inverted;
    TRY(json_field_bool(value, "Split", "invert", false, &is_inverted, err));
    for (size_t i = 0; i < sizeof behaviors / sizeof *behaviors; i++)
        if (strcmp(behavior, behaviors[i].name) == 0)
            return add_step(p, text, n_bytes, is_literal, behaviors[i].behavior, is_inverted, err);
    FAIL(UM_UNSUPPORTED, err, "Split.behavior \"%.80s\" is not supported", behavior);
}

static um_status parse_byte_level(const json_t *value, pre_tokenizer *p, um_error *err) {
    bool add_prefix_space, use_regex;
    TRY(json_field_bool(value, "ByteLevel", "add_prefix_space", true, &add_prefix_space, err));
    TRY(json_field_bool(value, "ByteLevel", "use_regex", true, &use_regex, err));
    TRY(add_step(p, use_regex ? BYTE_LEVEL_PATTERN : NULL, sizeof BYTE_LEVEL_PATTERN - 1, false,
                 SPLIT_BEHAVIOR_ISOLATED, false, err));
    p->steps[p->n_steps - 1].add_prefix_space = add_prefix_space;
    return UM_OK;
}

static um_status parse_simple(const char *type, const json_t *value, pre_tokenizer *p,
                              bool *is_known, um_error *err) {
    *is_known = true;
    if (strcmp(type, "Digits") == 0) {
        bool is_individual;
        TRY(json_field_bool(value, "Digits", "individual_digits", false, &is_individual, err));
        return add_step(p, "\\p{N}", 5, false,
                        is_individual ? SPLIT_BEHAVIOR_ISOLATED : SPLIT_BEHAVIOR_CONTIGUOUS, false,
                        err);
    }
    if (strcmp(type, "Whitespace") == 0) {
        /* Rust's \w: other than Oniguruma's it has only decimal digits, and the two joiners. */
        static const char pattern[] =
            "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]+|"
            "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}\\s]+";
        return add_step(p, pattern, sizeof pattern - 1, false, SPLIT_BEHAVIOR_REMOVED, true, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_step(p, "\\s", 2, false, SPLIT_BEHAVIOR_REMOVED, false, err);
    *is_known = false;
    return UM_OK;
}

/* *is_byte_level: the chain so far ends in ByteLevel. */
static um_status parse_value(const json_t *value, int depth, pre_tokenizer *p, bool *is_byte_level,
                             um_error *err) {
    if (!json_is_object(value))
        FAIL(UM_FORMAT, err, "a pre-tokenizer is %s; an object is expected",
             json_field_kind(value));
    if (depth > DEPTH_MAX) FAIL(UM_UNSUPPORTED, err, "pre-tokenizers are nested too deeply");
    const char *type;
    size_t n_type;
    TRY(json_field_string(value, "pre_tokenizer", "type", true, &type, &n_type, err));
    if (strcmp(type, "Sequence") == 0) {
        json_t *items;
        TRY(json_field_array(value, "pre_tokenizer", "pretokenizers", true, &items, err));
        size_t i;
        const json_t *item;
        json_array_foreach(items, i, item) TRY(parse_value(item, depth + 1, p, is_byte_level, err));
        return UM_OK;
    }
    if (*is_byte_level)
        FAIL(UM_UNSUPPORTED, err,
             "the pre-tokenizer %.80s follows ByteLevel; ByteLevel must be the"
             " last one",
             type);
    if (strcmp(type, "Split") == 0) return parse_split(value, p, err);
    if (strcmp(type, "ByteLevel") == 0) {
        *is_byte_level = true;
        return parse_byte_level(value, p, err);
    }
    bool is_known;
    TRY(parse_simple(type, value, p, &is_known, err));
    if (!is_known) FAIL(UM_UNSUPPORTED, err, "pre_tokenizer type %.80s is not supported", type);
    return UM_OK;
}

um_status pre_tokenizer_parse(const json_t *value, pre_tokenizer *p, um_error *err) {
    memset(p, 0, sizeof *p);
    bool is_byte_level = false;
    if (value && !json_is_null(value)) TRY(parse_value(value, 0, p, &is_byte_level, err));
    if (!is_byte_level)
        FAIL(UM_UNSUPPORTED, err,
             "pre_tokenizer does not end in ByteLevel; only byte-level BPE is"
             " supported");
    return UM_OK;
}

void pre_tokenizer_deinit(pre_tokenizer *p) {
    for (size_t i = 0; i < p->n_steps; i++) split_regex_destroy(p->steps[i].regex);
    memory_free(p->steps);
    memset(p, 0, sizeof *p);
}

/* ---- Cutting ---- */

void pre_tokenizer_scratch_deinit(pre_tokenizer_scratch *scratch) {
    memory_free(scratch->pieces.items);
    memory_free(scratch->cut.items);
    strbuf_deinit(&scratch->spaced);
    strbuf_deinit(&scratch->respaced);
    split_regex_match_destroy(scratch->match);
    memset(scratch, 0, sizeof *scratch);
}

um_status piece_list_append(piece_list *list, size_t start, size_t end, bool is_match,
                            um_error *err) {
    if (memory_grow(&list->items, &list->capacity, list->n, sizeof *list->items) != 0)
        FAIL(UM_NO_MEMORY, err, "no memory for %zu pieces of text", list->n + 1);
    list->items[list->n++] = (piece){start, end, is_match};
    return UM_OK;
}

/* Appends matches and gaps of one piece, in order. A match may be empty. */
static um_status cut_piece(const pre_tokenizer_step *step, const char *text, const piece *whole,
                           pre_tokenizer_scratch *s, um_error *err) {
    const char *start = text + whole->start;
    size_t n_bytes = whole->end - whole->start, done = 0;
    split_regex_walk walk = {0};
    for (;;) {
        bool is_found;
        size_t match_start, match_end;
        TRY(split_regex_next(step->regex, s->match, start, n_bytes, &walk, &is_found, &match_start,
                             &match_end, err));
        if (!is_found) break;
        if (done != match_start)
            TRY(piece_list_append(&s->cut, whole->start + done, whole->start + match_start,
                                  step->is_inverted, err));
        TRY(piece_list_append(&s->cut, whole->start + match_start, whole->start + match_end,
                              !step->is_inverted, err));
        done = match_end;
    }
    if (done != n_bytes)
        TRY(piece_list_append(&s->cut, whole->start + done, whole->end, step->is_inverted, err));
    return UM_OK;
}

/* Joins cut[first..] in place as the behaviour says, and drops what is removed or empty. */
static void join_pieces(piece_list *cut, size_t first, split_behavior behavior) {
    piece *items = cut->items;
    size_t n = first;
    bool was_match = false;
    if (behavior == SPLIT_BEHAVIOR_MERGED_WITH_NEXT) {
        /* From the right: a match joins the gap behind it. The result grows from the end down. */
        size_t kept = cut->n;
        for (size_t i = cut->n; i-- > first;) {
            piece item = items[i];
            if (item.is_match && !was_match && kept < cut->n)
                items[kept].start = item.start;
            else
                items[--kept] = item;
            was_match = item.is_match;
        }
        for (size_t i = kept; i < cut->n; i++)
            if (items[i].start != items[i].end) items[n++] = items[i];
        cut->n = n;
        return;
    }
    for (size_t i = first; i < cut->n; i++) {
        piece item = items[i];
        bool joins = behavior == SPLIT_BEHAVIOR_CONTIGUOUS             ? item.is_match == was_match
                     : behavior == SPLIT_BEHAVIOR_MERGED_WITH_PREVIOUS ? item.is_match && !was_match
                                                                       : false;
        was_match = item.is_match;
        if (behavior == SPLIT_BEHAVIOR_REMOVED && item.is_match) continue;
        if (joins && n > first)
            items[n - 1].end = item.end;
        else
            items[n++] = item;
    }
    cut->n = n;
    n = first;
    for (size_t i = first; i < cut->n; i++)
        if (items[i].start != items[i].end) items[n++] = items[i];
    cut->n = n;
}

/* Copies all pieces with a space before each that has none; the ranges become those of the copy. */
static um_status add_spaces(const char **text, pre_tokenizer_scratch *s, um_error *err) {
    s->respaced.n_bytes = 0;
    for (size_t i = 0; i < s->pieces.n; i++) {
        piece *item = &s->pieces.items[i];
        size_t start = s->respaced.n_bytes;
        if ((*text)[item->start] != ' ') strbuf_append_char(&s->respaced, ' ');
        strbuf_append(&s->respaced, *text + item->start, item->end - item->start);
        *item = (piece){start, s->respaced.n_bytes, false};
    }
    if (s->respaced.has_failed) FAIL(UM_NO_MEMORY, err, "no memory for a copy of the text");
    strbuf old = s->spaced;
    s->spaced = s->respaced;
    s->respaced = old;
    *text = s->spaced.data ? s->spaced.data : "";
    return UM_OK;
}

um_status pre_tokenizer_run(const pre_tokenizer *p, const char *text, size_t n_bytes,
                            pre_tokenizer_scratch *s, const char **cut_text, um_error *err) {
    s->pieces.n = 0;
    if (n_bytes) TRY(piece_list_append(&s->pieces, 0, n_bytes, false, err));
    if (!s->match) TRY(split_regex_match_create(&s->match, err));
    for (size_t i_step = 0; i_step < p->n_steps; i_step++) {
        const pre_tokenizer_step *step = &p->steps[i_step];
        if (step->add_prefix_space) TRY(add_spaces(&text, s, err));
        if (!step->regex) continue;
        s->cut.n = 0;
        for (size_t i = 0; i < s->pieces.n; i++) {
            size_t first = s->cut.n;
            TRY(cut_piece(step, text, &s->pieces.items[i], s, err));
            join_pieces(&s->cut, first, step->behavior);
        }
        piece_list old = s->pieces;
        s->pieces = s->cut;
        s->cut = old;
    }
    *cut_text = text;
    return UM_OK;
}
