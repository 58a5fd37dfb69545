/* Tests of api/error and of the facts in api/service. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "api/error.h"
#include "api/service.h"

static void codes_survive_a_round_trip(void **state) {
    (void)state;
    for (int i = SERVICE_ERROR_UNAUTHENTICATED; i < SERVICE_ERROR_OTHER; i++) {
        enum service_error error = (enum service_error)i;

        assert_int_equal(service_error_from_code(service_error_code(error)), error);
        assert_true(service_error_errno(error) < 0);
    }
}

static void unknown_codes_are_other(void **state) {
    static const char *const codes[] = {"", "none", "other", "NOT_FOUND", "not_found ", "bad_request"};

    (void)state;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        assert_int_equal(service_error_from_code(codes[i]), SERVICE_ERROR_OTHER);
    assert_int_equal(service_error_from_code(NULL), SERVICE_ERROR_OTHER);
    assert_int_equal(service_error_errno(SERVICE_ERROR_OTHER), -EIO);
    assert_int_equal(service_error_errno((enum service_error)1000), -EIO);
    assert_string_equal(service_error_code((enum service_error)1000), "other");
}

static void errnos_are_those_of_the_design(void **state) {
    (void)state;
    assert_int_equal(service_error_errno(SERVICE_ERROR_NONE), 0);
    assert_int_equal(service_error_errno(SERVICE_ERROR_FORBIDDEN), -EACCES);
    assert_int_equal(service_error_errno(SERVICE_ERROR_LOCKED), -EPERM);
    assert_int_equal(service_error_errno(SERVICE_ERROR_NOT_FOUND), -ENOENT);
    assert_int_equal(service_error_errno(SERVICE_ERROR_CAP), -EDQUOT);
    assert_int_equal(service_error_errno(SERVICE_ERROR_STORAGE), -EDQUOT);
    assert_int_equal(service_error_errno(SERVICE_ERROR_TOO_LARGE), -EFBIG);
    assert_int_equal(service_error_errno(SERVICE_ERROR_UNAVAILABLE), -ETIMEDOUT);
}

static void operations_have_classes(void **state) {
    (void)state;
    assert_int_equal(service_class_of(SERVICE_OP_FOLDERS), SERVICE_READ);
    assert_int_equal(service_class_of(SERVICE_OP_MOVE), SERVICE_WRITE);
    assert_int_equal(service_class_of(SERVICE_OP_APPEND_BY_NAME), SERVICE_APPEND);
    assert_false(service_op_writes(SERVICE_OP_PROBE_WRITE));
    assert_true(service_op_writes(SERVICE_OP_FOLDER_DELETE));
    for (int op = 0; op <= SERVICE_OP_PROBE_WRITE; op++) {
        assert_non_null(service_op_name((enum service_op)op));
        if (service_op_writes((enum service_op)op))
            assert_int_not_equal(service_class_of((enum service_op)op), SERVICE_READ);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_survive_a_round_trip),
        cmocka_unit_test(unknown_codes_are_other),
        cmocka_unit_test(errnos_are_those_of_the_design),
        cmocka_unit_test(operations_have_classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
