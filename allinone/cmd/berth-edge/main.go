// Program berth-edge is an OCI registry in one process, for small machines: disk and SQLite.
package main

import (
	"github.com/berth-registry/berth/allinone"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
	"github.com/berth-registry/berth/services/gateway/auth/ldap"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

var version = "unknown" // set by the linker

func main() {
	parts := allinone.Stores(
		map[string]blobstore.OpenPool{"local": disk.OpenPool},
		metadata.Drivers{Databases: map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured}},
	)
	parts.Methods = auth.Parts{LDAP: ldap.Open, Bearer: jwt.Bearer(nil), OIDC: jwt.OIDC(nil)}
	parts.Mirror = allinone.Mirrors(syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer}})
	allinone.Program("berth-edge", version, "an OCI registry in one process, for small machines: disk and SQLite", parts).Main()
}
