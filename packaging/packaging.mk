# SPDX-License-Identifier: MIT
# Packages, built from a copy of this tree, by make runs that know nothing of this one:
# $(BUILD)/xsaveshim_VERSION_amd64.deb, $(BUILD)/xsaveshim-VERSION-1.x86_64.rpm
PACKAGED := Makefile README.md NEWS.md CONTRIBUTING.md SECURITY.md LICENSE command completions core docs etc include libvirt man packaging preload scripts test
PACKAGE_TREE = $(abspath $(BUILD))/package/xsaveshim-$(VERSION)
AFRESH := env -u MAKEFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u BUILD -u VERSION
# A Debian machine has the build dependencies, but not in rpm's database; and that script needs bash, whatever it says.
RPM_ON_DEBIAN := --nodeps --define '__brp_compress bash /usr/lib/rpm/brp-compress %{?_prefix}'

.PHONY: package-tree deb rpm
package-tree:
	@rm -rf $(PACKAGE_TREE)
	@mkdir -p $(PACKAGE_TREE)
	@cp -r --preserve=mode $(PACKAGED) $(PACKAGE_TREE)
	@sed -i 's/^VERSION := .*/VERSION := $(VERSION)/' $(PACKAGE_TREE)/Makefile

deb: package-tree ## build the Debian package
	@cp -r --preserve=mode packaging/debian $(PACKAGE_TREE)
	@sed -i 's/@VERSION@/$(VERSION)/' $(PACKAGE_TREE)/debian/changelog
	cd $(PACKAGE_TREE) && $(AFRESH) dpkg-buildpackage -b -us -uc
	@mv $(PACKAGE_TREE)/../*.deb $(BUILD)/
	@rm -r $(BUILD)/package

rpm: package-tree ## build the RPM
	@sed 's/@VERSION@/$(VERSION)/' packaging/rpm/xsaveshim.spec >$(BUILD)/xsaveshim.spec
	@tar -C $(BUILD)/package -czf $(BUILD)/package/xsaveshim-$(VERSION).tar.gz xsaveshim-$(VERSION)
	$(AFRESH) rpmbuild -bb --define '_topdir $(abspath $(BUILD))/package' --define '_sourcedir %{_topdir}' \
		$(if $(wildcard /etc/debian_version),$(RPM_ON_DEBIAN)) $(BUILD)/xsaveshim.spec
	@mv $(BUILD)/package/RPMS/*/*.rpm $(BUILD)/
	@rm -r $(BUILD)/package
