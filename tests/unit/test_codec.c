/* Tests of api/codec, json, notes and folders: requests byte for byte, and answers of every kind of
 * honest, broken and hostile server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/codec.h"
#include "api/json.h"

#define TEXT(literal) ((struct service_text){(literal), sizeof(literal) - 1})

/* --- requests --- */

static void expect(struct service_call call, const char *method, const char *path, const char *body) {
    struct request request;

    assert_int_equal(codec_encode(&call, &request), 0);
    assert_string_equal(request.method, method);
    assert_string_equal(request.path, path);
    if (body) {
        assert_string_equal(request.body, body);
        assert_int_equal(request.body_size, strlen(body));
    } else {
        assert_null(request.body);
    }
    request_release(&request);
}

static void expect_invalid(struct service_call call) {
    struct request request;

    assert_int_equal(codec_encode(&call, &request), -EINVAL);
    assert_null(request.path);
    assert_null(request.body);
}

static void lists_are_explicit(void **state) {
    struct service_call call = {.op = SERVICE_OP_LIST};

    (void)state;
    expect(call, "GET", "/notes?sort=updated&limit=200&offset=0", NULL);
    call.limit = 20;
    call.offset = 40;
    call.sort = SERVICE_SORT_CREATED;
    call.filter_folder = true;
    call.folder = (struct service_folder_ref){SERVICE_PLACE_FOLDER, 7};
    expect(call, "GET", "/notes?folder_id=7&sort=created&limit=20&offset=40", NULL);
    call.folder.place = SERVICE_PLACE_ROOT;
    call.limit = 1000;
    call.sort = SERVICE_SORT_APPENDED;
    expect(call, "GET", "/notes?folder_id=none&sort=appended&limit=200&offset=40", NULL);
    call.folder.place = SERVICE_PLACE_KEEP;
    expect_invalid(call);
    expect((struct service_call){.op = SERVICE_OP_FOLDERS}, "GET", "/folders", NULL);
}

static void names_are_escaped(void **state) {
    struct service_call call = {.op = SERVICE_OP_GET_BY_NAME, .name = "a b/\xc3\xa9~._-%?#+"};

    (void)state;
    expect(call, "GET", "/notes/by-filename/a%20b%2F%C3%A9~._-%25%3F%23%2B", NULL);
    call.op = SERVICE_OP_APPEND_BY_NAME;
    call.text = TEXT("x");
    call.name = "..txt";
    expect(call, "POST", "/notes/by-filename/..txt/append", "{\"text\":\"x\",\"append_only\":false}");
    call.append_only = call.client_encrypted = true;
    expect(call, "POST", "/notes/by-filename/..txt/append",
           "{\"text\":\"x\",\"append_only\":true,\"client_encrypted\":true}");
    call.name = "..";
    expect_invalid(call);
    call.name = ".";
    expect_invalid(call);
    call.name = "";
    expect_invalid(call);
    call.name = NULL;
    expect_invalid(call);
}

static void creations_are_wrapped(void **state) {
    struct service_row rows[2] = {
        {.title = "t", .text = TEXT("a\"\\\n\t\x01\x7f\xc3\xa9")},
        {.title = "u", .folder = {SERVICE_PLACE_FOLDER, 3}, .append_only = true, .client_encrypted = true}};
    struct service_call call = {.op = SERVICE_OP_CREATE, .rows = rows, .row_count = 1};

    (void)state;
    expect(call, "POST", "/notes",
           "{\"note\":{\"title\":\"t\",\"plain_body\":\"a\\\"\\\\\\n\\t\\u0001\x7f\xc3\xa9\",\"format\":"
           "\"plain\"}}");
    call.op = SERVICE_OP_BULK;
    call.row_count = 2;
    expect(call, "POST", "/notes/bulk",
           "{\"notes\":[{\"title\":\"t\",\"plain_body\":\"a\\\"\\\\\\n\\t\\u0001\x7f\xc3\xa9\",\"format\":"
           "\"plain\"},"
           "{\"title\":\"u\",\"plain_body\":\"\",\"format\":\"plain\",\"folder_id\":3,\"append_only\":true,"
           "\"client_encrypted\":true}]}");
    call.row_count = 0;
    expect_invalid(call);
    call.row_count = SERVICE_BULK_MAX + 1;
    expect_invalid(call);
    call.op = SERVICE_OP_CREATE;
    call.row_count = 2;
    expect_invalid(call);
    call.row_count = 1;
    rows[0].title = "";
    expect_invalid(call);
}

static void patches_hold_what_is_present(void **state) {
    struct service_setting settings[] = {
        {"append_deadline_hours", "12"}, {"alert_email", NULL}, {"webhook_url", "https://x/"}};
    struct service_call call = {.op = SERVICE_OP_PATCH, .id = INT64_C(9007199254740992), .title = "n"};

    (void)state;
    call.text = TEXT("");
    call.folder.place = SERVICE_PLACE_ROOT;
    call.settings = settings;
    call.setting_count = 3;
    expect(call, "PATCH", "/notes/9007199254740992",
           "{\"note\":{\"title\":\"n\",\"plain_body\":\"\",\"folder_id\":null,\"append_deadline_hours\":12,"
           "\"alert_email\":null,\"webhook_url\":\"https://x/\"}}");
    settings[0].value = "soon";
    expect_invalid(call);
    settings[0].value = NULL;
    call = (struct service_call){.op = SERVICE_OP_PATCH, .id = 1, .settings = settings, .setting_count = 1};
    expect(call, "PATCH", "/notes/1", "{\"note\":{\"append_deadline_hours\":null}}");
    settings[0].key = "format";
    expect_invalid(call);
    call.setting_count = 0;
    expect_invalid(call);
    call = (struct service_call){.op = SERVICE_OP_PATCH, .id = 0, .title = "x"};
    expect_invalid(call);
    expect((struct service_call){.op = SERVICE_OP_PROBE_WRITE}, "PATCH", "/notes/0",
           "{\"note\":{\"folder_id\":null}}");
}

static void the_rest_of_the_calls(void **state) {
    struct service_call call = {.op = SERVICE_OP_APPEND, .id = 5, .text = TEXT("two\nlines")};

    (void)state;
    expect(call, "POST", "/notes/5/append", "{\"text\":\"two\\nlines\"}");
    call.text.data = NULL;
    expect_invalid(call);
    call = (struct service_call){.op = SERVICE_OP_MOVE, .id = 5, .folder = {SERVICE_PLACE_ROOT, 0}};
    expect(call, "POST", "/notes/5/move", "{\"folder_id\":null}");
    call.folder = (struct service_folder_ref){SERVICE_PLACE_FOLDER, INT64_C(1000000000000000)};
    expect(call, "POST", "/notes/5/move", "{\"folder_id\":1000000000000000}");
    call.folder.place = SERVICE_PLACE_KEEP;
    expect_invalid(call);
    expect((struct service_call){.op = SERVICE_OP_GET, .id = 5}, "GET", "/notes/5", NULL);
    expect((struct service_call){.op = SERVICE_OP_DELETE, .id = 5}, "DELETE", "/notes/5", NULL);
    expect((struct service_call){.op = SERVICE_OP_FOLDER_CREATE, .name = "f"}, "POST", "/folders",
           "{\"folder\":{\"name\":\"f\"}}");
    expect((struct service_call){.op = SERVICE_OP_FOLDER_RENAME, .id = 2, .name = "f"}, "PATCH", "/folders/2",
           "{\"folder\":{\"name\":\"f\"}}");
    expect((struct service_call){.op = SERVICE_OP_FOLDER_DELETE, .id = 2}, "DELETE", "/folders/2", NULL);
    expect_invalid((struct service_call){.op = SERVICE_OP_FOLDER_CREATE});
    expect_invalid((struct service_call){.op = SERVICE_OP_FOLDER_DELETE});
}

static void only_utf8_is_sent(void **state) {
    struct service_call call = {.op = SERVICE_OP_APPEND, .id = 5, .text = TEXT("a\0b")};

    (void)state;
    expect_invalid(call);
    call.text = TEXT("a\xff");
    expect_invalid(call);
    call.text = TEXT("\xed\xa0\x80");
    expect_invalid(call);
    expect_invalid((struct service_call){.op = SERVICE_OP_FOLDER_CREATE, .name = "\xc3"});
}

static void large_texts_are_quick(void **state) {
    size_t size = 3 << 20;
    char *text = malloc(size);
    struct service_call call = {.op = SERVICE_OP_APPEND, .id = 5, .text = {text, size}};
    struct request request;

    (void)state;
    memset(text, 1, size); /* without a NUL behind it */
    assert_int_equal(codec_encode(&call, &request), 0);
    assert_int_equal(request.body_size, 6 * size + strlen("{\"text\":\"\"}"));
    request_release(&request);
    free(text);
}

/* --- answers --- */

/* Judges a copy, so that the sanitizer sees reads behind the end. */
static struct service_reply *decode(enum service_op op, int status, const char *text, size_t size,
                                    bool throttled) {
    struct service_reply *reply = calloc(1, sizeof(*reply));
    char *copy = text ? malloc(size + 1) : NULL;
    struct codec_answer answer = {status, copy, size};

    assert_non_null(reply);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    assert_int_equal(codec_decode(op, &answer, reply), throttled);
    free(copy);
    return reply;
}

static struct service_reply *judge(enum service_op op, int status, const char *text) {
    return decode(op, status, text, text ? strlen(text) : 0, false);
}

static void check(enum service_op op, int status, const char *text, enum service_outcome outcome,
                  enum service_error error) {
    struct service_reply *reply = judge(op, status, text);

    assert_int_equal(reply->outcome, outcome);
    assert_int_equal(reply->error, error);
    assert_int_equal(reply->status, status);
    service_reply_destroy(reply);
}

static const char full[] =
    "{\"id\":7,\"filename\":\"a.txt\",\"title\":\"A\",\"format\":\"plain\",\"folder_id\":3,\"pinned\":false,"
    "\"append_only\":true,\"client_encrypted\":false,\"append_deadline_hours\":24,\"alert_email\":\"e@x\","
    "\"last_appended_at\":\"2026-05-02T12:34:55Z\",\"alerted_at\":null,\"webhook_url\":\"https://h/\","
    "\"webhook_failure_count\":2,\"webhook_disabled_at\":null,\"webhook_format\":\"slack\","
    "\"plain_body\":\"x\\u003cy\\n\\ud83d\\ude00\",\"byte_size\":8,\"created_at\":\"2026-05-01T00:00:00Z\","
    "\"updated_at\":\"2026-05-02T12:34:56Z\"}";

static void full_notes_tell_everything(void **state) {
    struct service_reply *reply = judge(SERVICE_OP_GET, 200, full);
    const struct service_note *note = reply->notes;

    (void)state;
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_int_equal(reply->note_count, 1);
    assert_int_equal(note->has, 0x1ff);
    assert_int_equal(note->id, 7);
    assert_string_equal(note->filename, "a.txt");
    assert_string_equal(note->title, "A");
    assert_false(note->rich);
    assert_int_equal(note->folder_id, 3);
    assert_true(note->append_only);
    assert_int_equal(note->byte_size, 8);
    assert_string_equal(note->body, "x<y\n\xf0\x9f\x98\x80");
    assert_int_equal(note->body_size, 8);
    assert_true(note->body_exact);
    assert_int_equal(note->updated_at, 1777725296);
    assert_int_equal(note->created_at, 1777593600);
    assert_int_equal(note->last_appended_at, 1777725295);
    assert_int_equal(note->append_deadline_hours, 24);
    assert_string_equal(note->alert_email, "e@x");
    assert_string_equal(note->webhook_format, "slack");
    assert_int_equal(note->webhook_failure_count, 2);
    assert_null(note->alerted_at);
    service_reply_destroy(reply);
}

static void missing_and_odd_fields_are_absent(void **state) {
    struct service_reply *reply = judge(SERVICE_OP_LIST, 200,
                                        "{\"notes\":[{\"id\":\"12\",\"filename\":\"a\",\"x\":[{}]},"
                                        "{\"id\":13,\"filename\":\"b\",\"title\":5,\"folder_id\":\"x\","
                                        "\"append_only\":\"yes\",\"byte_size\":-1,"
                                        "\"updated_at\":\"soon\",\"created_at\":7,\"last_appended_at\":null,"
                                        "\"format\":\"rich\",\"plain_body\":[]},"
                                        "{\"id\":13,\"filename\":\"b\",\"folder_id\":null,\"byte_size\":1.5},"
                                        "{\"id\":0,\"filename\":\"z\"},{\"id\":9007199254740993,\"filename\":"
                                        "\"z\"},{\"id\":-4,\"filename\":\"z\"},"
                                        "{\"id\":1.5,\"filename\":\"z\"},{\"id\":\"1x\",\"filename\":\"z\"},{"
                                        "\"id\":99},{\"filename\":\"z\"},4,null]}");

    (void)state;
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_true(reply->partial);
    assert_int_equal(reply->item_count, 12);
    assert_int_equal(reply->note_count, 3);
    assert_int_equal(reply->notes[0].id, 12);
    assert_int_equal(reply->notes[0].has, 0);
    assert_int_equal(reply->notes[1].has, SERVICE_HAS_APPENDED);
    assert_true(reply->notes[1].rich);
    assert_null(reply->notes[1].title);
    assert_int_equal(reply->notes[1].byte_size, 0);
    assert_int_equal(reply->notes[2].has, SERVICE_HAS_FOLDER);
    assert_int_equal(reply->notes[2].id, 13);
    service_reply_destroy(reply);
}

static void omitted_nulls_of_full_notes(void **state) {
    struct service_reply *reply =
        judge(SERVICE_OP_GET, 200, "{\"id\":1,\"filename\":\"\",\"plain_body\":null}");

    (void)state;
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_int_equal(reply->notes[0].has,
                     SERVICE_HAS_FOLDER | SERVICE_HAS_APPENDED | SERVICE_HAS_BODY | SERVICE_HAS_SETTINGS);
    assert_null(reply->notes[0].body);
    assert_true(reply->notes[0].body_exact);
    service_reply_destroy(reply);
}

static void check_body(const char *json, const char *body, bool exact) {
    char text[400];
    struct service_reply *reply;

    snprintf(text, sizeof(text), "{\"id\":1,\"filename\":\"f\\u0000g\",\"plain_body\":%s}", json);
    reply = judge(SERVICE_OP_GET, 200, text);
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_string_equal(reply->notes[0].filename, "f\xef\xbf\xbdg");
    if (body) {
        assert_string_equal(reply->notes[0].body, body);
        assert_int_equal(reply->notes[0].body_size, strlen(body));
    } else {
        assert_null(reply->notes[0].body);
    }
    assert_int_equal(reply->notes[0].body_exact, exact);
    service_reply_destroy(reply);
}

static void bodies_that_no_file_can_show(void **state) {
    (void)state;
    check_body("\"\"", "", true);
    check_body("\"a\\\\u0000\"", "a\\u0000", true);
    check_body("\"a\\u0000b\\u0000\"",
               "a\xef\xbf\xbd"
               "b\xef\xbf\xbd",
               false);
    check_body("\"\\ud800\"", "\xef\xbf\xbd", false);
    check_body("\"\\udc00\\ud83d\\u0041\"",
               "\xef\xbf\xbd\xef\xbf\xbd"
               "A",
               false);
    check_body("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", true);
    check_body("\"a\xff"
               "b\"",
               "a\xff"
               "b",
               false);
    check_body("\"\xed\xa0\x80\"", "\xed\xa0\x80", false);
    check_body("{\"x\":1}", NULL, false);
    check_body("17", NULL, false);
}

static void success_without_sense_is_doubt(void **state) {
    static const char *const texts[] = {NULL,
                                        "",
                                        " ",
                                        "null",
                                        "[]",
                                        "{}",
                                        "\"x\"",
                                        "<html>",
                                        "{\"note\":{\"id\":1}}",
                                        "{\"id\":1}",
                                        "{\"id\":1,\"filename\":null}",
                                        "{\"id\":1,\"filename\":\"a\"} x",
                                        "{\"id\":1,\"filename\":\"\\uZZZZ\"}",
                                        "{\"id\":1,\"filename\":\"a\"",
                                        "{]",
                                        "]"};
    static const enum service_op ops[] = {SERVICE_OP_GET,     SERVICE_OP_CREATE,       SERVICE_OP_BULK,
                                          SERVICE_OP_PATCH,   SERVICE_OP_MOVE,         SERVICE_OP_LIST,
                                          SERVICE_OP_FOLDERS, SERVICE_OP_FOLDER_CREATE};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        for (size_t j = 0; j < sizeof(ops) / sizeof(ops[0]); j++)
            check(ops[j], 200, texts[i], SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
    }
    check(SERVICE_OP_APPEND, 204, NULL, SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_APPEND, 200, "{\"x\":1}", SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_BULK, 201, "{\"created\":[{\"id\":1,\"filename\":\"a\"},{}]}", SERVICE_IN_DOUBT,
          SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_DELETE, 204, NULL, SERVICE_OK, SERVICE_ERROR_NONE);
    check(SERVICE_OP_FOLDER_DELETE, 200, "whatever", SERVICE_OK, SERVICE_ERROR_NONE);
}

static void receipts(void **state) {
    struct service_reply *reply =
        judge(SERVICE_OP_APPEND, 200,
              "{\"filename\":\"f\",\"created\":true,\"byte_size\":26,"
              "\"bytes_remaining\":3145702,\"updated_at\":\"2026-05-02T12:34:56Z\"}");

    (void)state;
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_int_equal(reply->receipt.id, 0);
    assert_string_equal(reply->receipt.filename, "f");
    assert_true(reply->receipt.created);
    assert_int_equal(reply->receipt.byte_size, 26);
    assert_int_equal(reply->receipt.storage_cap, -1);
    assert_int_equal(reply->receipt.updated_at, 1777725296);
    service_reply_destroy(reply);
}

static void folder_lists(void **state) {
    struct service_reply *reply =
        judge(SERVICE_OP_FOLDERS, 200, "{\"folders\":[{\"id\":\"3\",\"name\":\"a/b\"},{\"id\":4},{}]}");

    (void)state;
    assert_int_equal(reply->outcome, SERVICE_OK);
    assert_true(reply->partial);
    assert_int_equal(reply->folder_count, 1);
    assert_int_equal(reply->folders[0].id, 3);
    assert_string_equal(reply->folders[0].name, "a/b");
    service_reply_destroy(reply);
}

#define ENVELOPE(code) "{\"error\":{\"code\":\"" code "\",\"message\":\"m\"}}"

static void codes_rule(void **state) {
    (void)state;
    check(SERVICE_OP_GET, 404, ENVELOPE("not_found"), SERVICE_REFUSED, SERVICE_ERROR_NOT_FOUND);
    check(SERVICE_OP_GET, 500, ENVELOPE("not_found"), SERVICE_REFUSED, SERVICE_ERROR_NOT_FOUND);
    check(SERVICE_OP_PATCH, 413, ENVELOPE("cap_exceeded"), SERVICE_REFUSED, SERVICE_ERROR_CAP);
    check(SERVICE_OP_PATCH, 409, ENVELOPE("idempotency_key_conflict"), SERVICE_REFUSED,
          SERVICE_ERROR_KEY_CONFLICT);
    check(SERVICE_OP_PATCH, 503, ENVELOPE("service_unavailable"), SERVICE_IN_DOUBT,
          SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_PATCH, 400, ENVELOPE("service_unavailable"), SERVICE_IN_DOUBT,
          SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_PATCH, 400, ENVELOPE("bad_request"), SERVICE_REFUSED, SERVICE_ERROR_OTHER);
    check(SERVICE_OP_PATCH, 500, ENVELOPE("internal_error"), SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_PATCH, 408, ENVELOPE("timeout"), SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
    check(SERVICE_OP_PATCH, 302, ENVELOPE("moved"), SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
}

static void statuses_without_a_code(void **state) {
    static const int doubtful[] = {100, 301, 302, 304, 307, 400, 404, 405,
                                   408, 409, 410, 422, 500, 502, 503, 504};
    static const char *const texts[] = {NULL, "<html>no</html>", "{\"error\":\"Not Found\"}",
                                        "{\"error\":{}}"};

    (void)state;
    for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
        for (size_t i = 0; i < sizeof(doubtful) / sizeof(doubtful[0]); i++)
            check(SERVICE_OP_DELETE, doubtful[i], texts[t], SERVICE_IN_DOUBT, SERVICE_ERROR_UNAVAILABLE);
        check(SERVICE_OP_PATCH, 413, texts[t], SERVICE_REFUSED, SERVICE_ERROR_TOO_LARGE);
        check(SERVICE_OP_PATCH, 401, texts[t], SERVICE_REFUSED, SERVICE_ERROR_UNAUTHENTICATED);
        check(SERVICE_OP_PATCH, 403, texts[t], SERVICE_REFUSED, SERVICE_ERROR_FORBIDDEN);
    }
}

static void throttled_by_code_or_status(void **state) {
    static const char code[] = ENVELOPE("rate_limited");

    (void)state;
    service_reply_destroy(decode(SERVICE_OP_GET, 429, code, sizeof(code) - 1, true));
    service_reply_destroy(decode(SERVICE_OP_GET, 403, code, sizeof(code) - 1, true));
    service_reply_destroy(decode(SERVICE_OP_GET, 429, NULL, 0, true));
    check(SERVICE_OP_GET, 429, ENVELOPE("forbidden"), SERVICE_REFUSED, SERVICE_ERROR_FORBIDDEN);
}

static void messages_are_tidy(void **state) {
    char text[2000];
    struct service_reply *reply;

    (void)state;
    snprintf(text, sizeof(text),
             "{\"error\":{\"code\":\"validation_failed\",\"message\":\"a\\nb\\u001b[31m\\u0085\xff\","
             "\"failed\":[1]}}");
    reply = judge(SERVICE_OP_BULK, 422, text);
    assert_string_equal(reply->message, "a b [31m  ? failed: [1]");
    service_reply_destroy(reply);
    memcpy(text, "{\"error\":\"", 10);
    for (int i = 0; i < 800; i += 2)
        memcpy(text + 10 + i, "\xc3\xa9", 2);
    strcpy(text + 810, "\"}");
    reply = judge(SERVICE_OP_GET, 500, text);
    assert_int_equal(strlen(reply->message), 300);
    assert_true(json_utf8(reply->message, 300));
    service_reply_destroy(reply);
}

static void every_prefix_and_every_flip(void **state) {
    static const enum service_op ops[] = {SERVICE_OP_GET, SERVICE_OP_LIST, SERVICE_OP_APPEND,
                                          SERVICE_OP_FOLDERS, SERVICE_OP_BULK};
    static const int statuses[] = {200, 422, 503};
    char text[sizeof(full) + 200];
    char flipped[sizeof(text)];
    int size = snprintf(
        text, sizeof(text),
        "{\"notes\":[%s],\"folders\":[{\"id\":1,\"name\":\"\\ud83d\\ude00\"}],\"error\":{\"code\":\"rate\"}}",
        full);

    (void)state;
    for (int cut = 0; cut < size; cut++) {
        for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
            struct service_reply *reply = decode(ops[i], statuses[cut % 3], text, (size_t)cut, false);

            assert_int_equal(reply->outcome, SERVICE_IN_DOUBT);
            service_reply_destroy(reply);
        }
        for (int bit = 0; bit < 256; bit += 7) {
            memcpy(flipped, text, (size_t)size);
            flipped[cut] = (char)bit;
            service_reply_destroy(decode(ops[bit % 5], statuses[bit / 5 % 3], flipped, (size_t)size, false));
        }
    }
}

static void bombs_are_refused(void **state) {
    size_t size = 1 << 20;
    char *text = malloc(size);

    (void)state;
    memset(text, '[', size);
    service_reply_destroy(decode(SERVICE_OP_LIST, 200, text, size, false));
    memset(text, ']', size);
    memset(text, '[', 60);
    service_reply_destroy(decode(SERVICE_OP_LIST, 200, text, 120, false));
    for (size_t i = 0; i < size; i++)
        text[i] = i % 2 ? ',' : '1';
    text[0] = '[';
    text[size - 1] = ']';
    assert_null(json_parse(text, size - 1));
    free(text);
}

static void timestamps(void **state) {
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"2026-05-02T12:34:56Z", 1777725296},
                {"2026-05-02T12:34:56.123456Z", 1777725296},
                {"2026-05-02T14:34:56+02:00", 1777725296},
                {"2026-05-02T14:34:56.5+0200", 1777725296},
                {"2026-05-02T05:04:56-07:30", 1777725296},
                {"2026-05-02T14:34:56+02", 1777725296},
                {"2026-05-02 12:34:56 UTC", 1777725296},
                {"2000-02-29T23:59:60Z", 951868800},
                {"1969-12-31T23:59:59Z", -1}};
    static const char *const bad[] = {"",
                                      "x",
                                      "2026",
                                      "2026-05-02",
                                      "2026-13-02T12:34:56Z",
                                      "2026-05-02T12:34Z",
                                      "2026-05-02T12:34:56X",
                                      "2026-05-02T12:34:56+",
                                      "2026-05-02T12:34:56+1",
                                      "2026-05-02T12:34:56+02:00x",
                                      "2026-05-02T12:61:56Z",
                                      "-026-05-02T12:34:56Z"};
    int64_t value;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(json_parse_time(good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (json_parse_time(bad[i], &value))
            fail_msg("%s was taken", bad[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_explicit),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(creations_are_wrapped),
        cmocka_unit_test(patches_hold_what_is_present),
        cmocka_unit_test(the_rest_of_the_calls),
        cmocka_unit_test(only_utf8_is_sent),
        cmocka_unit_test(large_texts_are_quick),
        cmocka_unit_test(full_notes_tell_everything),
        cmocka_unit_test(missing_and_odd_fields_are_absent),
        cmocka_unit_test(omitted_nulls_of_full_notes),
        cmocka_unit_test(bodies_that_no_file_can_show),
        cmocka_unit_test(success_without_sense_is_doubt),
        cmocka_unit_test(receipts),
        cmocka_unit_test(folder_lists),
        cmocka_unit_test(codes_rule),
        cmocka_unit_test(statuses_without_a_code),
        cmocka_unit_test(throttled_by_code_or_status),
        cmocka_unit_test(messages_are_tidy),
        cmocka_unit_test(every_prefix_and_every_flip),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(timestamps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
