# SPDX-License-Identifier: MIT
# A thin front: installs what is missing, configures, builds. The work is in meson.build and scripts/.
.POSIX:
.SUFFIXES:
BUILD = build
# Options of bench/run: make bench BENCH="--quick --only receive"
BENCH =

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	scripts/setup build
	meson setup $(BUILD)

demo: all
	scripts/demo $(BUILD)/godwit

check:
	scripts/setup test
	scripts/check

check-quick:
	scripts/setup test
	scripts/check --quick

bench: all
	scripts/setup test
	bench/run $(BENCH)

format:
	scripts/setup test
	scripts/check-format --fix

install: all
	meson install -C $(BUILD)

clean:
	rm -rf build build-*

.PHONY: all demo check check-quick bench format install clean
