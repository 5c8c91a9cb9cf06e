package rpc

import (
	"context"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/peer"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// adminRead is the event of a call that tells what is for administrators.
const adminRead = "admin.read"

// audited says which event a call leaves that is not a service's: of automation, or
// of the owner of the store. What a gateway calls for its users it has recorded
// itself. A test fails for a method that automation may call and that is neither
// here nor a read.
var audited = map[string]string{
	metadatav1.CatalogService_PutManifest_FullMethodName:    "manifest.put",
	metadatav1.CatalogService_DeleteTag_FullMethodName:      "manifest.delete",
	metadatav1.CatalogService_DeleteManifest_FullMethodName: "manifest.delete",
	metadatav1.CatalogService_MountBlob_FullMethodName:      "blob.mount",
	metadatav1.CatalogService_UnlinkBlob_FullMethodName:     "blob.delete",

	metadatav1.CollectorService_DeleteRepository_FullMethodName: "repository.delete",
	metadatav1.CollectorService_Undelete_FullMethodName:         "repository.undelete",
	metadatav1.CollectorService_Purge_FullMethodName:            "purge",
	metadatav1.CollectorService_Collect_FullMethodName:          "gc.run",
	metadatav1.ScrubService_StartScrub_FullMethodName:           "scrub.run",
	metadatav1.TakeOverService_FinishTakeOvers_FullMethodName:   "takeover.finish",
	metadatav1.RetentionService_ApplyRetention_FullMethodName:   "retention.run",
	metadatav1.RetentionService_RollbackTag_FullMethodName:      "tag.rollback",
	metadatav1.LimitsService_SetReadOnly_FullMethodName:         "readonly.set",
	metadatav1.LimitsService_ClearReadOnly_FullMethodName:       "readonly.clear",
	metadatav1.CacheService_EvictCached_FullMethodName:          "cache.evict",
	metadatav1.CacheService_SetPin_FullMethodName:               "cache.pin",
	metadatav1.CacheService_ClearPin_FullMethodName:             "cache.unpin",

	metadatav1.IdentitiesService_AddCredential_FullMethodName:    "apikey.create",
	metadatav1.IdentitiesService_RemoveCredential_FullMethodName: "apikey.remove",
	metadatav1.IdentitiesService_ListCredentials_FullMethodName:  adminRead,
	metadatav1.IdentitiesService_PutUser_FullMethodName:          "user.put",
	metadatav1.IdentitiesService_RemoveUser_FullMethodName:       "user.remove",
	metadatav1.IdentitiesService_ListUsers_FullMethodName:        adminRead,
	metadatav1.IdentitiesService_RotateTokenKeys_FullMethodName:  "token.rotate",
	metadatav1.AuditService_ListAudit_FullMethodName:             adminRead,
	metadatav1.AccessService_GetAccessRules_FullMethodName:       adminRead,
	metadatav1.AccessService_ExplainAccess_FullMethodName:        adminRead,
	metadatav1.AccessService_CheckAccessRules_FullMethodName:     adminRead,

	metadatav1.TrustService_AddTrusted_FullMethodName:    "trust.add",
	metadatav1.TrustService_RemoveTrusted_FullMethodName: "trust.remove",

	syncerv1.SyncService_Trigger_FullMethodName:     "mirror.run",
	syncerv1.SyncService_Pause_FullMethodName:       "mirror.pause",
	syncerv1.SyncService_Forget_FullMethodName:      "mirror.forget",
	syncerv1.SyncService_Reforward_FullMethodName:   "mirror.reforward",
	syncerv1.SyncService_DropForward_FullMethodName: "mirror.drop",
	syncerv1.SyncService_Examine_FullMethodName:     adminRead,

	scannerv1.ScanService_ScanNow_FullMethodName:    "scan.run",
	scannerv1.ScanService_AttachSBOM_FullMethodName: "scan.attach",
	scannerv1.ScanService_UpdateDB_FullMethodName:   "scan.update",
	scannerv1.ScanService_ImportDB_FullMethodName:   "scan.import",

	// Only the owner of the store reaches these.
	metadatav1.ExportService_Export_FullMethodName:     adminRead,
	metadatav1.IdentitiesService_Login_FullMethodName:  "login",
	metadatav1.AuditService_RecordAudit_FullMethodName: "audit.write",
}

// auditTime is how long a call waits until its event is stored.
const auditTime = 5 * time.Second

// record remembers a call that a client has made which is no service, before it is
// answered; err is what it ended with.
//
// It goes to the catalog at once and not in a batch, as those of the gateway do:
// such calls are few, and who makes them by hand looks at the log right after.
func (g guard) record(ctx context.Context, method string, req any, err error) {
	action := audited[method]
	if g.audit == nil || action == "" || !g.owned && speaks(ctx) {
		return
	}
	at := time.Now().UnixMicro()
	e := registry.AuditEvent{ID: registry.NewAuditID(at), At: at, Action: action, Object: auditText(objectOf(req)), Status: 200, Result: "ok"}
	if e.Object == "" {
		e.Object = method[strings.LastIndexByte(method, '/')+1:]
	}
	if err != nil {
		code := registry.AsError(err).Code
		e.Status, e.Result = code.HTTP(), code.OCI()
	}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		e.Source = p.Addr.String()
		if host, _, err := net.SplitHostPort(e.Source); err == nil && !g.owned {
			e.Source = host
		}
	}
	if g.owned {
		e.Actor, e.Source = e.Source, "control socket"
	} else {
		who, _ := peerOf(ctx)
		e.Actor = auditText(who.name)
	}
	// The call may have run out of time; what it has done it has done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTime)
	defer cancel()
	if err := g.audit.RecordAudit(ctx, []registry.AuditEvent{e}); err != nil {
		g.log.ErrorContext(ctx, "an audit event is lost: the catalog did not take it", "error", err.Error(),
			"event", e.Action, "actor", e.Actor, "source", e.Source, "object", e.Object, "result", e.Result)
	}
}

// objectOf returns what a request is about, "" if it is about the store.
func objectOf(req any) string {
	if r, ok := req.(interface{ GetRepository() string }); ok && r.GetRepository() != "" {
		return r.GetRepository() + versionOf(req)
	}
	switch r := req.(type) {
	case *metadatav1.AddCredentialRequest:
		return r.GetCredential().GetOwner() + "/" + r.GetCredential().GetId()
	case *metadatav1.RemoveCredentialRequest:
		return r.GetOwner() + "/" + r.GetId()
	case *metadatav1.PutUserRequest:
		return r.GetUser().GetId()
	case interface{ GetOwner() string }:
		return r.GetOwner()
	case interface{ GetRule() string }:
		return r.GetRule()
	case interface{ GetPattern() string }:
		return r.GetPattern()
	case interface{ GetRepositories() string }:
		return r.GetRepositories()
	case interface{ GetUser() string }:
		return r.GetUser()
	case interface{ GetId() string }:
		return r.GetId()
	}
	return ""
}

// versionOf returns the tag or digest that a request about a repository names.
func versionOf(req any) string {
	if r, ok := req.(interface{ GetTags() []string }); ok && len(r.GetTags()) > 0 {
		return ":" + strings.Join(r.GetTags(), ",")
	}
	if r, ok := req.(interface{ GetTag() string }); ok && r.GetTag() != "" {
		return ":" + r.GetTag()
	}
	if r, ok := req.(interface{ GetDigest() string }); ok && r.GetDigest() != "" {
		return "@" + r.GetDigest()
	}
	return ""
}

// auditText returns what an event may have as a text.
func auditText(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) > registry.MaxAuditText {
		s = strings.ToValidUTF8(s[:registry.MaxAuditText], "")
	}
	return s
}
