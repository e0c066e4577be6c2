# SPDX-License-Identifier: MIT
# What is installed beside the library and the command: settings and libvirt's part. And packages.
SBINDIR ?= $(PREFIX)/sbin
FILL_IN = sed -e 's,@LIBDIR@,$(LIBDIR),' -e 's,@DATADIR@,$(DATADIR),'

install: install-libvirt
uninstall: uninstall-libvirt

.PHONY: install-libvirt uninstall-libvirt
install-libvirt:
	@install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(DATADIR)/libvirt $(DESTDIR)/etc
	@$(FILL_IN) scripts/libvirt >$(DESTDIR)$(SBINDIR)/xsaveshim-libvirt
	@chmod 0755 $(DESTDIR)$(SBINDIR)/xsaveshim-libvirt
	@$(FILL_IN) libvirt/drop-in.conf >$(DESTDIR)$(DATADIR)/libvirt/drop-in.conf
	@install -m 0644 libvirt/apparmor $(DESTDIR)$(DATADIR)/libvirt/apparmor
	@install -D -m 0644 man/xsaveshim.conf.5 $(DESTDIR)$(MANDIR)/man5/xsaveshim.conf.5
	@install -D -m 0644 man/xsaveshim-libvirt.8 $(DESTDIR)$(MANDIR)/man8/xsaveshim-libvirt.8
	@install -D -m 0644 docs/libvirt.md $(DESTDIR)$(DOCDIR)/docs/libvirt.md
	@test -e $(DESTDIR)/etc/xsaveshim.conf || install -m 0644 libvirt/xsaveshim.conf $(DESTDIR)/etc/xsaveshim.conf

# Settings that somebody has changed stay.
uninstall-libvirt:
	@rm -f $(DESTDIR)$(SBINDIR)/xsaveshim-libvirt $(DESTDIR)$(MANDIR)/man5/xsaveshim.conf.5 \
		$(DESTDIR)$(MANDIR)/man8/xsaveshim-libvirt.8
	@rm -rf $(DESTDIR)$(DATADIR)/libvirt $(DESTDIR)$(DOCDIR)/docs
	@! cmp -s libvirt/xsaveshim.conf $(DESTDIR)/etc/xsaveshim.conf || rm $(DESTDIR)/etc/xsaveshim.conf

# Packages, built from a copy of this tree, by make runs that know nothing of this one:
# $(BUILD)/xsaveshim_VERSION_amd64.deb, $(BUILD)/xsaveshim-VERSION-1.x86_64.rpm
PACKAGED := Makefile README.md LICENSE $(wildcard command completions core docs include libvirt man packaging preload scripts test)
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

deb: package-tree
	@cp -r --preserve=mode packaging/debian $(PACKAGE_TREE)
	@sed -i 's/@VERSION@/$(VERSION)/' $(PACKAGE_TREE)/debian/changelog
	cd $(PACKAGE_TREE) && $(AFRESH) dpkg-buildpackage -b -us -uc
	@mv $(PACKAGE_TREE)/../*.deb $(BUILD)/
	@rm -r $(BUILD)/package

rpm: package-tree
	@sed 's/@VERSION@/$(VERSION)/' packaging/rpm/xsaveshim.spec >$(BUILD)/xsaveshim.spec
	@tar -C $(BUILD)/package -czf $(BUILD)/package/xsaveshim-$(VERSION).tar.gz xsaveshim-$(VERSION)
	$(AFRESH) rpmbuild -bb --define '_topdir $(abspath $(BUILD))/package' --define '_sourcedir %{_topdir}' \
		$(if $(wildcard /etc/debian_version),$(RPM_ON_DEBIAN)) $(BUILD)/xsaveshim.spec
	@mv $(BUILD)/package/RPMS/*/*.rpm $(BUILD)/
	@rm -r $(BUILD)/package
