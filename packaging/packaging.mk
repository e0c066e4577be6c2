# SPDX-License-Identifier: MIT
# The packages are $(BUILD)/xsaveshim_VERSION_amd64.deb and $(BUILD)/xsaveshim-VERSION-1.x86_64.rpm. Each package is built in a copy
# of this tree, by a make process that does not inherit the flags and variables of this make process.
PACKAGED := Makefile README.md NEWS.md CONTRIBUTING.md SECURITY.md LICENSE command completions core deploy docs etc host include libvirt man packaging preload schemas scripts shared supervise test
# Each package has its own copy of the tree, so that `make -j deb rpm` works.
PACKAGE_DIR = $(abspath $(BUILD))/$@-package
PACKAGE_TREE = $(PACKAGE_DIR)/xsaveshim-$(VERSION)
CLEAN_ENV := env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u BUILD -u VERSION
# --nodeps: on Debian, apt installs the build dependencies, so rpm's database does not have them. rpm's script brp-compress begins
# with #!/bin/sh, but needs bash.
RPM_ON_DEBIAN := --nodeps --define '__brp_compress bash /usr/lib/rpm/brp-compress %{?_prefix}'

define make_tree
@rm -rf $(PACKAGE_DIR)
@mkdir -p $(PACKAGE_TREE)
@cp -r --preserve=mode $(PACKAGED) $(PACKAGE_TREE)
@sed -i 's/^VERSION := .*/VERSION := $(VERSION)/' $(PACKAGE_TREE)/Makefile
endef

.PHONY: deb rpm
deb: ## build the Debian package
	$(make_tree)
	@cp -r --preserve=mode packaging/debian $(PACKAGE_TREE)
	@sed -i 's/@VERSION@/$(VERSION)/' $(PACKAGE_TREE)/debian/changelog
	cd $(PACKAGE_TREE) && $(CLEAN_ENV) dpkg-buildpackage -b -us -uc
	@mv $(PACKAGE_DIR)/*.deb $(BUILD)/
	@rm -r $(PACKAGE_DIR)

rpm: ## build the RPM
	$(make_tree)
	@sed 's/@VERSION@/$(VERSION)/' packaging/rpm/xsaveshim.spec >$(BUILD)/xsaveshim.spec
	@tar -C $(PACKAGE_DIR) -czf $(PACKAGE_DIR)/xsaveshim-$(VERSION).tar.gz xsaveshim-$(VERSION)
	$(CLEAN_ENV) rpmbuild -bb --define '_topdir $(PACKAGE_DIR)' --define '_sourcedir %{_topdir}' \
		$(if $(wildcard /etc/debian_version),$(RPM_ON_DEBIAN)) $(BUILD)/xsaveshim.spec
	@mv $(PACKAGE_DIR)/RPMS/*/*.rpm $(BUILD)/
	@rm -r $(PACKAGE_DIR)

# The container image has only the programs xsaveshim and xsaveshim-host, both static. This xsaveshim has no subcommand
# `run`, because `run` tests with dlopen() that the loader finds the library, and dlopen() does not work in a static program.
# --no-warnings: the linker would warn that a static program may not find the names of users and groups. If xsaveshim does not find
# them, `xsaveshim probe` cannot name the group that may open /dev/kvm, and `xsaveshim settings --domain` fails.
IMAGE = $(BUILD)/xsaveshim-$(VERSION).oci.tar
STATIC_LINK = $(CC) $(CFLAGS) $(LDFLAGS) -static -Wl,--no-warnings

$(BUILD)/image/main.o: command/main.c | $(BUILD)/headers
	@mkdir -p $(@D)
	$(call show,CC)$(COMPILE) $(HARDENING) -DWITHOUT_RUN -c -o $@ $<

$(BUILD)/image/xsaveshim: $(BUILD)/image/main.o $(filter-out %/main.o %/run.o $(BUILD)/supervise/%,$(COMMAND_OBJECTS)) $(CORE)
	$(call show,LD)$(STATIC_LINK) -pthread -o $@ $^ -lseccomp -ljansson

$(BUILD)/image/xsaveshim-host: $(HOST_OBJECTS) $(CORE)
	$(call show,LD)mkdir -p $(@D) && $(STATIC_LINK) -o $@ $^ $$(pkg-config --static --libs libbpf libelf) -ljansson

.PHONY: image
image: $(BUILD)/image/xsaveshim $(BUILD)/image/xsaveshim-host ## build the container image of the host mode, an OCI archive
	@packaging/image $(VERSION) $(BUILD)/image $(IMAGE)

# A release's archive contains only the committed files, so that everybody makes the same archive of a commit, byte for byte.
ARCHIVE = xsaveshim-$(VERSION).tar.gz

.PHONY: dist
dist: ## make the archive of a release and its sha256
	@git diff --quiet HEAD || { echo "make dist: commit the changed files first, because the archive has only committed files" >&2; exit 1; }
	@mkdir -p $(BUILD)
	@git archive --prefix=xsaveshim-$(VERSION)/ HEAD | gzip -n9 >$(BUILD)/$(ARCHIVE)
	@cd $(BUILD) && sha256sum $(ARCHIVE) >$(ARCHIVE).sha256
