# SPDX-License-Identifier: MIT
# Packages, built from a copy of this tree, by make runs that know nothing of this one:
# $(BUILD)/xsaveshim_VERSION_amd64.deb, $(BUILD)/xsaveshim-VERSION-1.x86_64.rpm
PACKAGED := Makefile README.md NEWS.md CONTRIBUTING.md SECURITY.md LICENSE command completions core docs etc host include libvirt man packaging preload scripts shared supervise test
# Each package has a tree of its own, so that `make deb rpm` makes both, one after the other or at once.
PACKAGE_DIR = $(abspath $(BUILD))/$@-package
PACKAGE_TREE = $(PACKAGE_DIR)/xsaveshim-$(VERSION)
AFRESH := env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u BUILD -u VERSION
# A Debian machine has the build dependencies, but not in rpm's database; and that script needs bash, whatever it says.
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
	cd $(PACKAGE_TREE) && $(AFRESH) dpkg-buildpackage -b -us -uc
	@mv $(PACKAGE_DIR)/*.deb $(BUILD)/
	@rm -r $(PACKAGE_DIR)

rpm: ## build the RPM
	$(make_tree)
	@sed 's/@VERSION@/$(VERSION)/' packaging/rpm/xsaveshim.spec >$(BUILD)/xsaveshim.spec
	@tar -C $(PACKAGE_DIR) -czf $(PACKAGE_DIR)/xsaveshim-$(VERSION).tar.gz xsaveshim-$(VERSION)
	$(AFRESH) rpmbuild -bb --define '_topdir $(PACKAGE_DIR)' --define '_sourcedir %{_topdir}' \
		$(if $(wildcard /etc/debian_version),$(RPM_ON_DEBIAN)) $(BUILD)/xsaveshim.spec
	@mv $(PACKAGE_DIR)/RPMS/*/*.rpm $(BUILD)/
	@rm -r $(PACKAGE_DIR)

# A release's archive: what is committed, so that whoever has the commit gets the same archive, byte for byte.
ARCHIVE = xsaveshim-$(VERSION).tar.gz

.PHONY: dist
dist: ## make the archive of a release and its sha256
	@git diff --quiet HEAD || { echo "make dist: commit what has changed first; the archive has what is committed" >&2; exit 1; }
	@mkdir -p $(BUILD)
	@git archive --prefix=xsaveshim-$(VERSION)/ HEAD | gzip -n9 >$(BUILD)/$(ARCHIVE)
	@cd $(BUILD) && sha256sum $(ARCHIVE) >$(ARCHIVE).sha256
