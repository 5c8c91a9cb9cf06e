package rpc

import (
	"context"
	"strings"

	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	"github.com/berth-registry/berth/registry"
)

// everyScanMethod is each method of [registry.Scans] as a client calls it.
func everyScanMethod(s registry.Scans) []methodCase {
	a, d := registry.Actor{ID: "a"}, registry.SHA256.FromString("")
	images := []registry.Digest{d}
	read, write := clientLimits().read, clientLimits().write
	return []methodCase{
		{scannerv1.ScanService_GetStatus_FullMethodName, true, read, func(ctx context.Context) error { _, err := s.ScanStatus(ctx, "r", d); return err }},
		{scannerv1.ScanService_ListStatuses_FullMethodName, true, read, func(ctx context.Context) error { _, err := s.ScanStatuses(ctx, images); return err }},
		{scannerv1.ScanService_ListFindings_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := s.Findings(ctx, d, registry.FindingQuery{})
			return err
		}},
		{scannerv1.ScanService_ListAffected_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := s.AffectedImages(ctx, "CVE-1", registry.Page[registry.Digest]{Limit: 1})
			return err
		}},
		{scannerv1.ScanService_CheckAffected_FullMethodName, true, read, func(ctx context.Context) error { _, err := s.AffectedOf(ctx, "CVE-1", images); return err }},
		{scannerv1.ScanService_GetSBOM_FullMethodName, true, scanTime, func(ctx context.Context) error { _, err := s.SBOM(ctx, "r", d, registry.SPDX); return err }},
		{scannerv1.ScanService_AttachSBOM_FullMethodName, false, scanTime, func(ctx context.Context) error {
			_, err := s.AttachSBOM(ctx, a, "r", d, registry.SPDX)
			return err
		}},
		{scannerv1.ScanService_ScanNow_FullMethodName, true, write, func(ctx context.Context) error { return s.ScanNow(ctx, "r", d) }},
		{scannerv1.ScanService_GetQueue_FullMethodName, true, read, func(ctx context.Context) error { _, err := s.ScanQueue(ctx); return err }},
		{scannerv1.ScanService_UpdateDB_FullMethodName, false, scanTime, func(ctx context.Context) error { _, err := s.UpdateDB(ctx); return err }},
		{scannerv1.ScanService_ImportDB_FullMethodName, false, scanTime, func(ctx context.Context) error {
			_, err := s.ImportDB(ctx, strings.NewReader("x"))
			return err
		}},
		{scannerv1.ScanService_Check_FullMethodName, true, read, func(ctx context.Context) error { _, err := s.Check(ctx); return err }},
	}
}
