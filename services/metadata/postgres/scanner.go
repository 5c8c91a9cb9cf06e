package postgres

import (
	"context"
	"log/slog"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// ScannerSchema is the schema that the scanner's tables are in.
const ScannerSchema = "berth_scanner"

const sqlMakeScannerSchema = "CREATE SCHEMA IF NOT EXISTS " + ScannerSchema

// OpenScanner opens the scanner's own schema in the database that the catalog is in,
// and makes it where it is missing.
func OpenScanner(ctx context.Context, cfg config.Storage, _ func(error), log *slog.Logger) (*sqldb.DB, error) {
	return openOwn(ctx, cfg, ScannerSchema, sqlMakeScannerSchema, log)
}
