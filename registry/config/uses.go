package config

import (
	"slices"
	"strings"
)

// usedBy are the keys of which a service makes something. What stands above and below
// them counts.
var usedBy = map[Program][]string{
	OnlyGateway: {
		"http", "log", "services", "outbound", "extensions.search", "extensions.metrics", "extensions.lint", "extensions.trust", "extensions.gates",
		"storage.redirectBlobURL", "storage.redirect", "storage.subPaths.*.redirectBlobURL", "storage.metadata.maxStaleness",
	},
	OnlyBlobstore: {
		"log", "services", "storage.rootDirectory", "storage.commit", "storage.storageDriver", "storage.reserve", "storage.watermarks",
		"storage.subPaths.*.rootDirectory", "storage.subPaths.*.commit", "storage.subPaths.*.storageDriver",
	},
	OnlyMetadata: {"log", "services", "outbound", "storage", "http.accessControl", "extensions.search.enable", "extensions.scrub", "extensions.events"},
	OnlySyncer:   {"log", "services", "outbound", "storage.rootDirectory", "storage.metadata", "extensions.sync"},
	OnlyScanner:  {"log", "services", "outbound", "storage.rootDirectory", "storage.metadata", "extensions.search"},
}

// unused are keys that are accepted and change nothing, besides those that [Keys] says
// are not built or not needed.
var unused = []string{"distSpecVersion", "storage.dedupe", "storage.subPaths.*.dedupe"}

// Serve tells which program it is that the configuration is for: a change of what other
// services make something of needs no restart of this one.
func (l *Live) Serve(program Program, s Services) {
	if l == nil {
		return
	}
	programs := []Program{program}
	if program == AllInOne {
		programs[0] = OnlyGateway
		for p, service := range map[Program]Service{OnlyBlobstore: s.Blobstore, OnlyMetadata: s.Metadata, OnlySyncer: s.Syncer, OnlyScanner: s.Scanner} {
			if len(service.Address) == 0 {
				programs = append(programs, p)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uses = nil
	for _, p := range programs {
		l.uses = append(l.uses, usedBy[p]...)
	}
}

// usesKey reports whether the program may make something of a key.
func (l *Live) usesKey(key keyParts) bool {
	if slices.ContainsFunc(idle(), key.below) {
		return false
	}
	return l.uses == nil || slices.ContainsFunc(l.uses, func(k string) bool { return key.related(strings.Split(k, ".")) })
}

// idle returns the keys that change nothing.
func idle() []string {
	all := slices.Clone(unused)
	for _, k := range Keys() {
		if k.Status != Built && !strings.Contains(k.Path, "[]") {
			all = append(all, k.Path)
		}
	}
	return all
}

// below reports whether k is a pattern, or stands below it.
func (k keyParts) below(pattern string) bool {
	p := strings.Split(pattern, ".")
	return len(k) >= len(p) && k.related(p)
}
