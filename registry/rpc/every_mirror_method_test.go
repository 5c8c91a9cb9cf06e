package rpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// allMethods is everyMethod with those of the mirror and the scanner. conn is nil for their names only.
func allMethods(conn grpc.ClientConnInterface) []methodCase {
	if conn == nil {
		return slices.Concat(everyMethod(nil, nil), everyMirrorMethod(nil), everyScanMethod(nil))
	}
	return slices.Concat(everyMethod(newBlobs(conn, clientLimits(), mem.DefaultBufferPool()), NewCatalog(conn)), everyMirrorMethod(NewMirror(conn)), everyScanMethod(NewScans(conn)))
}

// everyMirrorMethod is each method of [registry.Mirror] as a client calls it.
func everyMirrorMethod(m registry.Mirror) []methodCase {
	a, d := registry.Actor{ID: "a"}, registry.SHA256.FromString("")
	read, write := clientLimits().read, clientLimits().write
	return []methodCase{
		{syncerv1.SyncService_Route_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.Route(ctx, "docker.io", "r"); return err }},
		{syncerv1.SyncService_Resolve_FullMethodName, true, resolveTime, func(ctx context.Context) error {
			_, err := m.Resolve(ctx, a, "r", registry.Reference{Tag: "t"}, "")
			return err
		}},
		{syncerv1.SyncService_StatBlob_FullMethodName, true, resolveTime, func(ctx context.Context) error { _, err := m.Stat(ctx, a, "r", d); return err }},
		{syncerv1.SyncService_OpenBlob_FullMethodName, false, resolveTime, func(ctx context.Context) error {
			_, err := m.Open(ctx, a, "r", d, registry.Whole)
			return err
		}},
		{syncerv1.SyncService_FetchReferrers_FullMethodName, true, read, func(ctx context.Context) error { return m.FetchReferrers(ctx, a, "r", d) }},
		{syncerv1.SyncService_Served_FullMethodName, false, write, func(ctx context.Context) error { return m.Served(ctx, []registry.Served{{Repository: "r", Bytes: 1}}) }},
		{syncerv1.SyncService_Covers_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.Covers(ctx, "r"); return err }},
		{syncerv1.SyncService_Claim_FullMethodName, true, write, func(ctx context.Context) error { return m.Claim(ctx, a, "r") }},
		{syncerv1.SyncService_Announce_FullMethodName, true, write, func(ctx context.Context) error {
			_, err := m.Announce(ctx, a, "r", registry.AnnouncedPush{Tags: []registry.Tag{"t"}, Digest: d})
			return err
		}},
		{syncerv1.SyncService_Settle_FullMethodName, true, write, func(ctx context.Context) error { return m.Settle(ctx, "1+1", true) }},
		{syncerv1.SyncService_ListForwards_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := m.Forwards(ctx, registry.ForwardQuery{Limit: 1})
			return err
		}},
		{syncerv1.SyncService_DropForward_FullMethodName, true, write, func(ctx context.Context) error { return m.DropForward(ctx, 1) }},
		{syncerv1.SyncService_Reforward_FullMethodName, true, write, func(ctx context.Context) error { return m.Reforward(ctx, "r") }},
		{syncerv1.SyncService_ListRules_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.MirrorRules(ctx); return err }},
		{syncerv1.SyncService_ListFills_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.Fills(ctx); return err }},
		{syncerv1.SyncService_ListPresence_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := m.Presence(ctx, "r", registry.Page[registry.Tag]{Limit: 1})
			return err
		}},
		{syncerv1.SyncService_Explain_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.Explain(ctx, "r"); return err }},
		{syncerv1.SyncService_Examine_FullMethodName, true, resolveTime, func(ctx context.Context) error { _, err := m.Examine(ctx, "r"); return err }},
		{syncerv1.SyncService_Trigger_FullMethodName, true, write, func(ctx context.Context) error { return m.Trigger(ctx, "r") }},
		{syncerv1.SyncService_Pause_FullMethodName, true, write, func(ctx context.Context) error { return m.Pause(ctx, "r", true) }},
		{syncerv1.SyncService_Forget_FullMethodName, true, write, func(ctx context.Context) error { return m.Forget(ctx, "r") }},
		{syncerv1.SyncService_Check_FullMethodName, true, read, func(ctx context.Context) error { _, err := m.Check(ctx); return err }},
	}
}
