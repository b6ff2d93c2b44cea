# Key Release Agent. `make help` lists the targets.

SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DOMAIN  ?= dist/domain
VERSION ?= v0.1.0
EPOCH   ?= 1
COMMIT  ?= $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
PORT    ?= 8443
KERNEL  ?= cloud
FIPS140 ?= off
HEALTH  ?=
BAUD    ?= 115200
STATE   ?= 512

# What Debian must provide: a file that shows it is there, and its package.
NEEDS := /usr/bin/gcc=gcc /usr/include/stdlib.h=libc6-dev /usr/bin/qemu-system-x86_64=qemu-system-x86 \
	/usr/share/OVMF/OVMF_CODE_4M.secboot.fd=ovmf /usr/bin/swtpm=swtpm /usr/bin/swtpm_setup=swtpm-tools /usr/bin/swtpm_localca=swtpm-tools /usr/bin/softhsm2-util=softhsm2 \
	/usr/lib/systemd/boot/efi/linuxx64.efi.stub=systemd-boot-efi /sbin/mke2fs=e2fsprogs /sbin/debugfs=e2fsprogs \
	/usr/bin/mcopy=mtools /sbin/mkfs.fat=dosfstools /usr/bin/age=age /usr/bin/openssl=openssl /usr/bin/curl=curl

# What only the tests need: other people's programs that the product must work with.
PEERS := /usr/bin/pki=strongswan-pki /usr/sbin/slapd=slapd /usr/bin/glewlwyd=glewlwyd /usr/bin/sqlite3=sqlite3 /usr/sbin/chronyd=chrony \
	/usr/sbin/rsyslogd=rsyslog /usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so=rsyslog-gnutls /usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so=rsyslog-openssl \
	/usr/lib/x86_64-linux-gnu/libsoftokn3.so=libnss3 /usr/bin/chromium=chromium /usr/bin/tpm2_checkquote=tpm2-tools /usr/bin/sbverify=sbsigntool /usr/bin/osslsigncode=osslsigncode

test race mutants: NEEDS += $(PEERS)

.PHONY: help setup domain image eval run test vmtest check race soak bench mutants clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## install what Debian must provide (as root; otherwise print the command)
	@missing=""
	for n in $(NEEDS); do [ -e "$${n%%=*}" ] || missing="$$missing $${n#*=}"; done
	missing=$$(printf '%s\n' $$missing | sort -u | xargs)
	if [ -n "$$missing" ]; then
		cmd="apt-get install -y --no-install-recommends $$missing"
		if [ "$$(id -u)" = 0 ]; then
			echo "installing: $$missing"
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$cmd -qq >/dev/null
		else
			echo "Some Debian packages are missing. Run this once, then make again:"; echo
			echo "    sudo $$cmd"; echo
			exit 1
		fi
	fi
	command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer and put it on PATH."; exit 1; }

domain: setup ## make a throwaway domain in dist/domain, unless one is there
	@[ -e $(DOMAIN)/domain.json ] || go run ./image/cmd/domain init $(DOMAIN) -plain

image: domain ## build dist/kra.efi, kra.cpio.zst, kra.img and kra.json for DOMAIN (default dist/domain), and sign the image for Secure Boot; KERNEL=full: for servers; FIPS140=certified: with Go's validated module; HEALTH=:9443: serves metrics there; BAUD=9600: the serial line's speed; STATE=8192: MiB for the state
	@go run ./image/cmd/mkimage -domain $(DOMAIN) -out dist -kernel $(KERNEL) -fips140 $(FIPS140) -health "$(HEALTH)" -baud "$(BAUD)" -state $(STATE) -version $(VERSION) -epoch $(EPOCH) -commit $(COMMIT)
	go run ./image/cmd/domain sign -dir $(DOMAIN) -uki dist/kra.efi

eval: image ## the whole product in one command, in QEMU with a software TPM
	@mkdir -p dist/bin
	go build -o dist/bin/ ./kra/cmd/kra ./image/cmd/domain
	@ln -sf kra dist/bin/age-plugin-kra
	go run ./qemu/cmd/eval -dist dist -domain $(DOMAIN)

run: image ## start the box: its console on your terminal, its port on https://127.0.0.1:8443
	@go run ./qemu/cmd/kra-vm -dist dist -domain $(DOMAIN) -port $(PORT)

check: setup ## gofmt, vet and staticcheck
	@bad=$$(git ls-files '*.go' | xargs gofmt -l); [ -z "$$bad" ] || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

race: setup ## unit, fuzz-seed and process-level tests under the race detector
	@.ci/again ./... -race -timeout 30m

vmtest: image ## the tests that boot the image in QEMU
	@.ci/again ./qemu -count=1 -timeout 60m -vm -dist $(CURDIR)/dist -domain $(abspath $(DOMAIN))

test: check race vmtest ## everything that CI runs

soak: image ## cut the power of two boxes at a hundred random moments in all; an hour and more
	@go test ./qemu -count=1 -timeout 12h -vm -dist $(CURDIR)/dist -domain $(abspath $(DOMAIN)) -run '^TestBoxPowerCuts' -boxes 2 -cuts 50 -v

bench: setup ## decisions at scale, keys of the HSM by their number, resident and in the vault, the start with 100,000 of them, releases beside the bare PKCS#11 operation, beside challenges and renewals, and among 10,000 keys, refusals, and 10,000 idle connections; 35 min; JSON lines in dist/bench.json
	@mkdir -p dist
	go test ./kra/policy -run "^$$" -bench Scale -benchtime 1x | tee dist/scale.txt
	go test ./hsm -run "^$$" -bench Keys -benchtime 1x -timeout 30m | tee dist/keys.txt
	go test ./appliance -run "^$$" -bench Start -benchtime 1x -timeout 30m | tee dist/start.txt
	go test ./appliance/boxtest -run "^$$" -bench Release -benchtime 1x -timeout 60m -scale $(CURDIR)/dist/scale.txt -out $(CURDIR)/dist/bench.json

mutants: setup ## break each claimed feature and see its named test fail
	@go test -count=1 -timeout 120m ./appliance -run TestMutants -v -mutants=all

clean: ## remove dist/
	@rm -rf dist
