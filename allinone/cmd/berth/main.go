// Program berth is an OCI registry in one process.
package main

import (
	"context"

	"github.com/berth-registry/berth/allinone"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/otlp"
	"github.com/berth-registry/berth/registry/rpc/reflect"
	"github.com/berth-registry/berth/registry/transfer"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
	"github.com/berth-registry/berth/services/gateway/auth/jwt/claims"
	"github.com/berth-registry/berth/services/gateway/auth/jwt/secretsmanager"
	"github.com/berth-registry/berth/services/gateway/auth/ldap"
	"github.com/berth-registry/berth/services/gateway/search"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/cel"
	"github.com/berth-registry/berth/services/metadata/nats"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/syncer"
	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/credentials/ecr"
	"github.com/berth-registry/berth/services/syncer/credentials/gcp"
)

var version = "unknown" // set by the linker

func main() {
	parts := allinone.Stores(
		map[string]blobstore.OpenPool{"local": disk.OpenPool, "s3": s3.OpenPool},
		metadata.Drivers{
			Databases:  map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured, "postgres": postgres.OpenConfigured},
			Conditions: cel.Compile,
			NATS:       nats.Open,
		},
	)
	parts.Methods = auth.Parts{LDAP: ldap.Open, Bearer: jwt.Bearer(secretsmanager.Open), OIDC: jwt.OIDC(claims.Compile)}
	parts.Search = search.Open
	parts.Mirror = allinone.Mirrors(syncer.Parts{
		Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer, "postgres": postgres.OpenSyncer},
		Helpers:   map[string]credentials.Helper{"ecr": ecr.Helper, "gcp": gcp.Helper},
	})
	parts.Scans = scans(map[string]scanner.OpenDB{"sqlite": sqlite.OpenScanner, "postgres": postgres.OpenScanner})
	parts.Reflect = reflect.Register
	parts.ExaminePool, parts.ExamineDatabase = s3.Examine, postgres.Examine
	parts.Tree = func(ctx context.Context, p config.Pool) (transfer.Files, error) { return s3.OpenTree(ctx, p) }
	program := allinone.Program("berth", version, "an OCI registry in one process", parts)
	program.Traces = otlp.Open
	program.Main()
}
