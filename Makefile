# `make` builds build/jotsfs, `make test` checks it, `make demo` shows it; `make help` lists the rest.

VERSION := $(shell cat packaging/VERSION)
VARIANT ?= release
BUILD   := build$(patsubst %,/%,$(filter-out release,$(VARIANT)))
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
JOBS    ?= $(shell nproc)
PYTHON  := /usr/bin/python3

FUZZ_SECONDS  ?= 60
TOP_LEVEL     := fs api cache tests packaging Makefile README.md LICENSE
LIBRARIES     := fuse3 libcurl libcjson sqlite3 libutf8proc zlib libcrypt
TEST_LIBRARY  := cmocka

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang

# --- flags (what they are is decided in STYLE.md) ---

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
    -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough -Wconversion -Wno-sign-conversion
SANITIZED := -O1 -g -fno-omit-frame-pointer -fPIE
FLAGS_release := -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=3 -fPIE
FLAGS_asan := $(SANITIZED) -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_ubsan := $(SANITIZED) -fsanitize=undefined -fno-sanitize-recover=undefined
FLAGS_tsan := $(SANITIZED) -fsanitize=thread
FLAGS_fuzz := $(SANITIZED) -fsanitize=fuzzer-no-link,address,undefined
ifeq ($(VARIANT),fuzz)
CC := $(CLANG)
endif

# Asked for when first needed: `make clean` and `make test` work where they are not installed yet.
LIBRARY_FLAGS = $(eval LIBRARY_FLAGS := $$(patsubst -I%,-isystem %,$$(filter-out -I/usr/include/%-linux-gnu,\
    $$(shell pkg-config --cflags $(LIBRARIES)))))$(LIBRARY_FLAGS)
LDLIBS = $(eval LDLIBS := $$(shell pkg-config --libs $(LIBRARIES)))$(LDLIBS) -pthread
DEFINES := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DJOTSFS_VERSION='"$(VERSION)"'
ALL_CFLAGS = -std=c11 $(WARNINGS) $(WERROR) $(FLAGS_$(VARIANT)) -pthread $(DEFINES) $(LIBRARY_FLAGS) $(CFLAGS)
ALL_LDFLAGS = $(FLAGS_$(VARIANT)) -pie -Wl,-z,relro,-z,now $(LDFLAGS)

# --- files ---

SOURCES  := $(sort $(wildcard api/*.c cache/*.c fs/*.c))
HEADERS  := $(sort $(wildcard api/*.h cache/*.h fs/*.h))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/%.o)
UNIT     := $(sort $(wildcard tests/unit/*.c))
UNIT_TESTS   := $(filter tests/unit/test_%,$(UNIT))
UNIT_HELPERS := $(filter-out tests/unit/test_%,$(UNIT))
FUZZERS  := $(sort $(wildcard tests/fuzz/*.c))
BENCHES  := $(sort $(wildcard tests/bench/*.c))
C_FILES  := $(SOURCES) $(HEADERS) $(UNIT) $(sort $(wildcard tests/unit/*.h)) $(FUZZERS) $(BENCHES)
TEST_PROGRAMS := $(UNIT_TESTS:tests/unit/%.c=$(BUILD)/unit/%)
SCRIPTS   = $(shell grep -lE '^\#!.*/(env )?(ba)?sh' -r packaging .ci tests)

.PHONY: all tests fuzzers test asan ubsan tsan sanitize valgrind fuzz bench demo lint format install clean help \
    lint-tools lint-layers lint-format lint-compile lint-tidy lint-cppcheck lint-shell
.DELETE_ON_ERROR:
.SECONDARY:

# --- building ---

all: $(BUILD)/jotsfs  ## the program, at build/jotsfs

tests: all $(TEST_PROGRAMS)

fuzzers: $(FUZZERS:tests/fuzz/%.c=$(BUILD)/fuzz-%)

$(BUILD)/jotsfs: $(OBJECTS)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libjotsfs.a: $(filter-out $(BUILD)/fs/main.o,$(OBJECTS))
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_HELPERS:%.c=$(BUILD)/%.o) $(BUILD)/libjotsfs.a
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS) -l$(TEST_LIBRARY) -lm

# Allocations of ours can be made to fail.
$(BUILD)/unit/test_memory: ALL_LDFLAGS += $(foreach name,malloc calloc realloc strdup memory_must model_answer,\
    -Wl,--wrap=$(name))

$(BUILD)/fuzz-%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libjotsfs.a
	$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.o: %.c Makefile packaging/VERSION | $(BUILD)/.libraries
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(patsubst %.c,$(BUILD)/%.d,$(SOURCES) $(UNIT) $(FUZZERS) $(BENCHES))

$(BUILD)/.libraries:
	@for tool in $(CC) pkg-config; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -n "$$missing" ] || for library in $(LIBRARIES); do \
	    pkg-config --exists $$library || missing="$$missing $$library"; done; \
	[ -e /usr/include/uthash.h ] || missing="$$missing uthash"; \
	[ -z "$$missing" ] || { echo "jotsfs needs:$$missing. To install what is missing on Debian:" \
	    "packaging/install-deps" >&2; exit 1; }
	@mkdir -p $(@D) && touch $@

# A make of our own for the next step, as parallel as this one or as there are processors.
again = $(MAKE) $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) --no-print-directory

# --- checking ---

test:  ## all tests; installs what they need
	@packaging/install-deps --test
	@+$(again) WERROR=-Werror tests
	@tests/run --build build

asan ubsan tsan:  ## all unit and mount tests under a sanitizer
	@packaging/install-deps --test
	@+$(again) VARIANT=$@ WERROR=-Werror tests
	@tests/run --build build/$@ --patience 4 unit mount

sanitize:  ## a short pass: unit tests and marked mount tests under asan
	@packaging/install-deps --test
	@+$(again) VARIANT=asan WERROR=-Werror tests
	@tests/run --build build/asan --patience 4 unit mount -- -m sanitizer

valgrind:  ## mount tests under valgrind (slow)
	@packaging/install-deps --test
	@+$(again) tests
	@JOTSFS_WRAPPER="valgrind --quiet --leak-check=full --error-exitcode=99" \
	    tests/run --build build --patience 15 mount -- -m "not slow"

fuzz:  ## each fuzzer for FUZZ_SECONDS
	@packaging/install-deps --test
	@+$(again) VARIANT=fuzz fuzzers
	@set -e; for name in $(FUZZERS:tests/fuzz/%.c=%); do mkdir -p build/fuzz/corpus-$$name; echo "fuzz $$name"; \
	    build/fuzz/fuzz-$$name -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/$$name- build/fuzz/corpus-$$name $(wildcard tests/fuzz/corpus); done

bench:  ## what operations cost, in time and in requests
	@packaging/install-deps
	@+$(again) all $(BUILD)/bench/floor
	@$(PYTHON) tests/bench/bench $(BENCH)

demo:  ## a mount of the stand-in service to look at and play with; needs no account
	@packaging/install-deps
	@+$(again) --silent all
	@tests/demo build/jotsfs

lint: lint-layers lint-format lint-compile lint-tidy lint-cppcheck lint-shell  ## formatting, warnings, static analysis

lint-tools:
	@packaging/install-deps --test

lint-layers:
	@.ci/check-layers $(TOP_LEVEL)

lint-format: lint-tools
	@echo clang-format; clang-format --dry-run -Werror $(C_FILES)

lint-compile: lint-tools $(BUILD)/.libraries
	@echo "$(CC) and $(CLANG) -Werror"
	@printf '%s\n' $(SOURCES) $(UNIT) $(BENCHES) | xargs -P $(JOBS) -I{} $(CC) $(ALL_CFLAGS) -Werror -fsyntax-only {}
	@printf '%s\n' $(SOURCES) $(UNIT) $(BENCHES) | xargs -P $(JOBS) -I{} $(CLANG) $(ALL_CFLAGS) -Werror -Wthread-safety \
	    -Wno-implicit-fallthrough -fsyntax-only {}  # uthash falls through; gcc has checked ours

lint-tidy: lint-tools $(BUILD)/.libraries
	@echo clang-tidy
	@printf '%s\n' $(SOURCES) | xargs -P $(JOBS) -I{} clang-tidy --quiet {} -- $(ALL_CFLAGS)

# uninitvar: cppcheck takes what uthash finds for uninitialised; both compilers look for the real ones.
lint-cppcheck: lint-tools
	@echo cppcheck; cppcheck --quiet --error-exitcode=1 -j $(JOBS) --std=c11 --language=c --inline-suppr \
	    --enable=warning,performance,portability --suppress=missingIncludeSystem --suppress=uninitvar \
	    $(DEFINES) $(SOURCES)

lint-shell: lint-tools
	@echo shellcheck; shellcheck $(SCRIPTS)

format:  ## rewrites the C sources as clang-format wants them
	clang-format -i $(C_FILES)

# --- installing ---

install: all  ## DESTDIR= PREFIX=
	install -D -m 755 $(BUILD)/jotsfs $(DESTDIR)$(BINDIR)/jotsfs
	$(foreach page,$(wildcard packaging/man/*.[1-8]),install -D -m 644 $(page) \
	    $(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page));)

clean:
	rm -rf build

help:
	@sed -n 's/^\([a-z ]*\):.*##  *\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
