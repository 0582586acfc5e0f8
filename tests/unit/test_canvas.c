/* SPDX-License-Identifier: Apache-2.0
 *
 * What the program keeps of an answer, from events that few models give: windows of several blocks,
 * positions that open again, steps that change nothing, a token that seeds a block.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "programs/canvas.c"

enum { N_PROMPT = 6, BLOCK = 4, N_CELLS = 11, MASK = 99 };

static um_event step_event(int32_t block, int32_t n_blocks, const um_change *changes,
                           int32_t n_changes) {
    return (um_event){
        .kind = UM_EVENT_STEP,
        .block = block,
        .first_position = block * BLOCK,
        .n_inputs = n_blocks * BLOCK,
        .changes = changes,
        .n_changes = n_changes,
    };
}

static void freeze_blocks(canvas *c, int32_t block, int32_t n_blocks) {
    um_event event = step_event(block, n_blocks, NULL, 0);
    event.kind = UM_EVENT_BLOCK;
    canvas_apply(c, &event);
}

static canvas start(void) {
    canvas c;
    um_error err;
    assert_int_equal(canvas_init(&c, N_PROMPT, N_CELLS, MASK, BLOCK, &err), UM_OK);
    assert_int_equal(c.n_open, 0);
    return c;
}

static void test_window(void **state) {
    (void)state;
    canvas c = start();
    um_change first[] = {{.position = 6, .token = 5, .probability = 0.5f},
                         {.position = 9, .token = 7, .probability = 0.25f}};
    um_event event = step_event(1, 1, first, 1);
    assert_true(canvas_open_blocks(&c, &event));
    canvas_apply(&c, &event);
    assert_int_equal(c.n_open, 2);
    assert_int_equal(c.n_blocks, 1);
    event = step_event(1, 2, first, 2); /* the next block opens beside it */
    assert_true(canvas_open_blocks(&c, &event));
    canvas_apply(&c, &event);
    assert_int_equal(c.n_open, 6);
    assert_int_equal(c.n_blocks, 2);
    assert_int_equal(c.cells[3].token, 7);
    assert_int_equal(canvas_committed(&c), 1);
    freeze_blocks(&c, 1, 1);
    assert_int_equal(c.n_frozen, 2);
    event = step_event(2, 2, NULL, 0); /* both move on */
    assert_true(canvas_open_blocks(&c, &event));
    assert_int_equal(c.n_open, 10);
    assert_int_equal(c.block, 2);
    assert_false(canvas_open_blocks(&c, &event));
    event = step_event(3, 2, NULL, 0); /* beyond what is to be written */
    assert_true(canvas_open_blocks(&c, &event));
    assert_int_equal(c.n_open, N_CELLS);
    canvas_deinit(&c);
}

static void test_reopened(void **state) {
    (void)state;
    canvas c = start();
    um_change commit[] = {{.position = 6, .token = 5, .probability = 0.5f},
                          {.position = 7, .token = 8, .probability = 0.5f}};
    um_change edit[] = {{.position = 6, .token = MASK, .probability = 0.9f, .is_edit = true},
                        {.position = 7, .token = 9, .probability = 0.75f, .is_edit = true}};
    um_event event = step_event(1, 1, commit, 2);
    canvas_open_blocks(&c, &event);
    canvas_apply(&c, &event);
    assert_int_equal(canvas_committed(&c), 2);
    event = step_event(1, 1, edit, 2);
    canvas_apply(&c, &event);
    assert_int_equal(canvas_committed(&c), 0);
    assert_true(c.cells[0].is_masked && c.tokens[0] == MASK);
    assert_true(c.cells[1].is_edited && c.tokens[1] == 9);
    event = step_event(1, 1, NULL, 0); /* nothing changes: an edit is shown once */
    canvas_apply(&c, &event);
    assert_false(c.cells[1].is_edited);
    assert_int_equal(c.n_steps, 3);
    canvas_deinit(&c);
}

static void test_seed(void **state) {
    (void)state;
    canvas c = start();
    um_event event = step_event(1, 1, NULL, 0);
    canvas_open_blocks(&c, &event);
    freeze_blocks(&c, 1, 1);
    um_change seed = {.position = 8, .token = 4, .probability = 1};
    event = step_event(2, 1, &seed, 1);
    assert_true(canvas_open_blocks(&c, &event));
    canvas_apply(&c, &event);
    assert_int_equal(c.tokens[2], 4);
    assert_int_equal(c.n_open, 6);
    assert_int_equal(c.n_frozen, 2);
    canvas_finish(&c, 3);
    assert_int_equal(c.n_open, 3);
    canvas_deinit(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_reopened),
        cmocka_unit_test(test_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
