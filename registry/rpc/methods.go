package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// methods says which roles may call each method. What is not here nobody may
// call; a test fails for a method that is served and not here.
//
// Bytes are for those who were told by the Catalog where they are, so automation
// has no access to them: it pushes and pulls over HTTP. It may not link either: a
// link says of any copy, by locator, whose content it is, and is believed.
var methods = map[string]Role{
	blobstorev1.BlobService_OpenBlob_FullMethodName:     Gateway | Metadata | Syncer | Scanner, // metadata: is a copy still there?
	blobstorev1.BlobService_StartUpload_FullMethodName:  Gateway | Syncer | Scanner,
	blobstorev1.BlobService_AppendUpload_FullMethodName: Gateway | Syncer | Scanner,
	blobstorev1.BlobService_GetUpload_FullMethodName:    Gateway | Syncer,
	blobstorev1.BlobService_CommitUpload_FullMethodName: Gateway | Syncer | Scanner,
	blobstorev1.BlobService_AbortUpload_FullMethodName:  Gateway | Syncer | Scanner,
	blobstorev1.BlobService_RemoveBlob_FullMethodName:   Metadata,
	blobstorev1.BlobService_VerifyBlob_FullMethodName:   Metadata,
	blobstorev1.BlobService_ListCopies_FullMethodName:   Metadata,
	blobstorev1.BlobService_PresignBlob_FullMethodName:  Gateway,
	blobstorev1.BlobService_Check_FullMethodName:        services,

	blobstorev1.JournalService_AppendJournal_FullMethodName: Metadata,
	blobstorev1.JournalService_ReadJournal_FullMethodName:   Metadata,
	blobstorev1.JournalService_ListJournal_FullMethodName:   Metadata,
	blobstorev1.JournalService_RemoveJournal_FullMethodName: Metadata,

	blobstorev1.LayoutService_FindLayouts_FullMethodName:      Metadata,
	blobstorev1.LayoutService_GetLayout_FullMethodName:        Metadata,
	blobstorev1.LayoutService_ReadLayoutIndex_FullMethodName:  Metadata,
	blobstorev1.LayoutService_ListLayoutCopies_FullMethodName: Metadata,
	// Only who names all copies knows what is not needed in a layout any more.
	blobstorev1.LayoutService_TakeOverCopy_FullMethodName:      Metadata,
	blobstorev1.LayoutService_ListLayoutFiles_FullMethodName:   Metadata,
	blobstorev1.LayoutService_RemoveLayoutFiles_FullMethodName: Metadata,
	blobstorev1.LayoutService_RemoveLayout_FullMethodName:      Metadata,

	// All names and the keys of upload tokens: for backups.
	metadatav1.ExportService_Export_FullMethodName: Metadata,

	metadatav1.CollectorService_DeleteRepository_FullMethodName: Gateway | Automation,
	metadatav1.CollectorService_ListDeleted_FullMethodName:      Gateway | Automation,
	metadatav1.CollectorService_Undelete_FullMethodName:         Gateway | Automation,
	metadatav1.CollectorService_Purge_FullMethodName:            Gateway | Automation,
	metadatav1.CollectorService_Collect_FullMethodName:          Gateway | Automation,
	metadatav1.CollectorService_ListDoomed_FullMethodName:       Gateway | Automation,

	// Who reads bytes may say what they were like.
	metadatav1.ScrubService_ReportReads_FullMethodName: Gateway | Syncer | Scanner,
	metadatav1.ScrubService_GetScrub_FullMethodName:    Gateway | Syncer | Automation,
	metadatav1.ScrubService_StartScrub_FullMethodName:  Gateway | Automation,
	metadatav1.ScrubService_ListDamages_FullMethodName: Gateway | Syncer | Automation,

	metadatav1.CatalogService_ListRepositories_FullMethodName: Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_ListTags_FullMethodName:         Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_ListTagHistory_FullMethodName:   Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_GetManifest_FullMethodName:      Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_ListReferrers_FullMethodName:    Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_GetBlob_FullMethodName:          Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_PutManifest_FullMethodName:      Gateway | Syncer | Scanner | Automation,
	metadatav1.CatalogService_DeleteTag_FullMethodName:        Gateway | Syncer | Automation,
	metadatav1.CatalogService_DeleteManifest_FullMethodName:   Gateway | Syncer | Automation,
	metadatav1.CatalogService_MountBlob_FullMethodName:        Gateway | Syncer | Automation,
	metadatav1.CatalogService_UnlinkBlob_FullMethodName:       Gateway | Syncer | Automation,
	metadatav1.CatalogService_AdmitUpload_FullMethodName:      Gateway | Syncer | Scanner,
	metadatav1.CatalogService_LinkBlob_FullMethodName:         Gateway | Syncer | Scanner,
	metadatav1.CatalogService_ListUploadKeys_FullMethodName:   Gateway,
	metadatav1.CatalogService_Check_FullMethodName:            services | Automation,

	metadatav1.RetentionService_CountPulls_FullMethodName:       Gateway,
	metadatav1.RetentionService_ListPulls_FullMethodName:        Gateway | Syncer | Scanner | Automation,
	metadatav1.RetentionService_ExplainRetention_FullMethodName: Gateway | Syncer | Scanner | Automation,
	metadatav1.RetentionService_ApplyRetention_FullMethodName:   Gateway | Automation,
	metadatav1.RetentionService_RollbackTag_FullMethodName:      Gateway | Syncer | Automation,

	metadatav1.LimitsService_ListReadOnly_FullMethodName:  Gateway | Automation,
	metadatav1.LimitsService_SetReadOnly_FullMethodName:   Gateway | Automation,
	metadatav1.LimitsService_ClearReadOnly_FullMethodName: Gateway | Automation,
	metadatav1.LimitsService_GetUsage_FullMethodName:      Gateway | Automation,
	metadatav1.LimitsService_NoteUploads_FullMethodName:   Gateway,

	// Secrets' hashes, signing keys, and who logged in: a gateway's word.
	metadatav1.IdentitiesService_GetTrust_FullMethodName:         Gateway,
	metadatav1.IdentitiesService_Login_FullMethodName:            Gateway,
	metadatav1.IdentitiesService_AddCredential_FullMethodName:    Gateway | Automation,
	metadatav1.IdentitiesService_UseCredential_FullMethodName:    Gateway,
	metadatav1.IdentitiesService_TakeCredential_FullMethodName:   Gateway,
	metadatav1.IdentitiesService_ClaimCredential_FullMethodName:  Gateway,
	metadatav1.IdentitiesService_ListCredentials_FullMethodName:  Gateway | Automation,
	metadatav1.IdentitiesService_RemoveCredential_FullMethodName: Gateway | Automation,
	metadatav1.IdentitiesService_ListUsers_FullMethodName:        Gateway | Automation,
	metadatav1.IdentitiesService_PutUser_FullMethodName:          Gateway | Automation,
	metadatav1.IdentitiesService_RemoveUser_FullMethodName:       Gateway | Automation,
	metadatav1.IdentitiesService_RotateTokenKeys_FullMethodName:  Gateway | Automation,
	metadatav1.AccessService_CheckAccess_FullMethodName:          Gateway | Syncer | Scanner | Automation,
	metadatav1.AccessService_GetAccessRules_FullMethodName:       Gateway | Automation,
	metadatav1.AccessService_ExplainAccess_FullMethodName:        Gateway | Automation,
	metadatav1.AccessService_CheckAccessRules_FullMethodName:     Gateway | Automation,
	// What is cached may have holes, and may go: who mirrors says what is.
	metadatav1.CacheService_PutCached_FullMethodName:     Syncer,
	metadatav1.CacheService_LinkCached_FullMethodName:    Syncer,
	metadatav1.CacheService_GetCacheUsage_FullMethodName: Gateway | Syncer | Automation,
	metadatav1.CacheService_ListCached_FullMethodName:    Gateway | Syncer | Automation,
	metadatav1.CacheService_GetPushedTo_FullMethodName:   Gateway | Syncer | Automation,
	metadatav1.CacheService_EvictCached_FullMethodName:   Gateway | Syncer | Automation,
	metadatav1.CacheService_UntagCached_FullMethodName:   Syncer,
	metadatav1.CacheService_ListPins_FullMethodName:      Gateway | Syncer | Automation,
	metadatav1.CacheService_SetPin_FullMethodName:        Gateway | Automation,
	metadatav1.CacheService_ClearPin_FullMethodName:      Gateway | Automation,
	// Content that is being fetched is for those who asked the Catalog first.
	syncerv1.SyncService_Route_FullMethodName:          Gateway,
	syncerv1.SyncService_Resolve_FullMethodName:        Gateway,
	syncerv1.SyncService_StatBlob_FullMethodName:       Gateway,
	syncerv1.SyncService_OpenBlob_FullMethodName:       Gateway | Syncer,
	syncerv1.SyncService_FetchReferrers_FullMethodName: Gateway,
	syncerv1.SyncService_Served_FullMethodName:         Gateway,
	syncerv1.SyncService_Covers_FullMethodName:         Gateway,
	syncerv1.SyncService_Claim_FullMethodName:          Gateway,
	syncerv1.SyncService_Announce_FullMethodName:       Gateway,
	syncerv1.SyncService_Settle_FullMethodName:         Gateway,
	syncerv1.SyncService_ListForwards_FullMethodName:   Gateway | Automation,
	syncerv1.SyncService_Reforward_FullMethodName:      Gateway | Automation,
	syncerv1.SyncService_DropForward_FullMethodName:    Gateway | Automation,
	syncerv1.SyncService_ListRules_FullMethodName:      Gateway | Automation,
	syncerv1.SyncService_ListFills_FullMethodName:      Gateway | Automation,
	syncerv1.SyncService_ListPresence_FullMethodName:   Gateway | Automation,
	syncerv1.SyncService_Explain_FullMethodName:        Gateway | Automation,
	syncerv1.SyncService_Examine_FullMethodName:        Gateway | Automation,
	syncerv1.SyncService_Trigger_FullMethodName:        Gateway | Automation,
	syncerv1.SyncService_Pause_FullMethodName:          Gateway | Automation,
	syncerv1.SyncService_Forget_FullMethodName:         Gateway | Automation,
	syncerv1.SyncService_Check_FullMethodName:          services | Automation,

	// Images are scanned for whoever may read them, which gateways and the metadata
	// service know.
	scannerv1.ScanService_GetStatus_FullMethodName:     Gateway | Metadata | Automation,
	scannerv1.ScanService_ListStatuses_FullMethodName:  Gateway | Metadata | Automation,
	scannerv1.ScanService_ListFindings_FullMethodName:  Gateway | Metadata | Automation,
	scannerv1.ScanService_ListAffected_FullMethodName:  Gateway | Automation,
	scannerv1.ScanService_CheckAffected_FullMethodName: Gateway | Automation,
	scannerv1.ScanService_GetSBOM_FullMethodName:       Gateway | Automation,
	scannerv1.ScanService_AttachSBOM_FullMethodName:    Gateway | Automation,
	scannerv1.ScanService_ScanNow_FullMethodName:       Gateway | Automation,
	scannerv1.ScanService_GetQueue_FullMethodName:      Gateway | Automation,
	scannerv1.ScanService_UpdateDB_FullMethodName:      Gateway | Automation,
	scannerv1.ScanService_ImportDB_FullMethodName:      Gateway | Automation,
	scannerv1.ScanService_Check_FullMethodName:         services | Automation,

	// Who sees requests tells what they were.
	metadatav1.AuditService_RecordAudit_FullMethodName: Gateway | Syncer | Scanner,
	metadatav1.AuditService_ListAudit_FullMethodName:   Gateway | Automation,

	// So does who sees more than the catalog.
	metadatav1.AnnouncementService_Announce_FullMethodName:          Gateway | Scanner,
	metadatav1.AnnouncementService_ListAnnouncements_FullMethodName: Gateway | Automation,
	metadatav1.AnnouncementService_ListSinks_FullMethodName:         Gateway | Automation,

	metadatav1.TrustService_ListTrusted_FullMethodName:   services | Automation,
	metadatav1.TrustService_AddTrusted_FullMethodName:    Gateway | Automation,
	metadatav1.TrustService_RemoveTrusted_FullMethodName: Gateway | Automation,
	metadatav1.TrustService_ListParents_FullMethodName:   Gateway | Scanner | Automation,

	metadatav1.TakeOverService_ListTakeOvers_FullMethodName:     Gateway | Automation,
	metadatav1.TakeOverService_FinishTakeOvers_FullMethodName:   Gateway | Automation,
	metadatav1.TakeOverService_GetTakeOverFinish_FullMethodName: Gateway | Automation,

	metadatav1.SearchService_SearchImages_FullMethodName:       Gateway | Automation,
	metadatav1.SearchService_SearchRepositories_FullMethodName: Gateway | Automation,
	metadatav1.SearchService_TogglePreference_FullMethodName:   Gateway,

	healthv1.Health_Check_FullMethodName: anybody,
	healthv1.Health_List_FullMethodName:  anybody,
	healthv1.Health_Watch_FullMethodName: anybody,

	// Reflection tells what is in the .proto files, to those who ask for it with a
	// certificate.
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      anybody,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": anybody,
}

// speakers are the roles whose word is taken for who the actor is: they have
// authenticated a user, or act for the installation. Everybody else acts as the
// name of their certificate.
const speakers = Gateway | Syncer | Scanner

// authorize returns nil if the peer at the other end of ctx may call method.
func (g guard) authorize(ctx context.Context, method string) error {
	if !g.secure {
		return nil
	}
	who, _ := peerOf(ctx)
	if who.roles&methods[method] != 0 {
		return nil
	}
	g.log.WarnContext(ctx, "refused a call", "method", method, "certificate", who.name, "roles", who.roles.String())
	// No Failure: the users of a gateway must not take this for their own rights.
	return status.Errorf(codes.PermissionDenied, "a certificate for %q, which is %s, may not call %s", who.name, who.roles, method)
}

// peerOf returns who is at the other end; not ok if nobody has asked.
func peerOf(ctx context.Context) (who peerInfo, ok bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return peerInfo{}, false
	}
	id, ok := p.AuthInfo.(identity)
	return id.peer, ok
}

// actorOf returns on whose behalf a request is made: the actor in it, if the
// peer's word counts, or else the peer itself.
//
// Who may open a store's control socket owns the store, and acts for it.
func actorOf(ctx context.Context, a *metadatav1.Actor) registry.Actor {
	if ctx.Value(owner{}) != nil {
		actor := actorFromWire(a)
		actor.System, actor.Scope = true, nil
		return actor
	}
	if !speaks(ctx) {
		who, _ := peerOf(ctx)
		// Ruled: a certificate that lets a client call is no right to anything here.
		// Without rules that say what it may do, it may do nothing.
		return registry.Actor{ID: who.name, Ruled: true}
	}
	return actorFromWire(a)
}

// speaks reports whether the peer's word is taken for who somebody is.
func speaks(ctx context.Context) bool {
	who, ok := peerOf(ctx)
	return !ok || who.roles&speakers != 0
}
