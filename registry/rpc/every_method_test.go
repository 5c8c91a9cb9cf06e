package rpc

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// everyMethod is each method of the ports as a client calls it, and what may be
// done when it fails.
func everyMethod(b registry.Blobs, c registry.Catalog) []methodCase {
	a, d := registry.Actor{ID: "a"}, registry.SHA256.FromString("")
	u := registry.Upload{ID: registry.NewUploadID(time.Unix(1, 0))}
	s := registry.Stored{Digest: d, Locator: "x"}
	read, write, stream := clientLimits().read, clientLimits().write, clientLimits().progress
	return []methodCase{
		{blobstorev1.BlobService_OpenBlob_FullMethodName, true, stream, func(ctx context.Context) error { _, err := b.Open(ctx, s, registry.Whole); return err }},
		{blobstorev1.BlobService_StartUpload_FullMethodName, false, write, func(ctx context.Context) error { _, err := b.Start(ctx, "", ""); return err }},
		{blobstorev1.BlobService_AppendUpload_FullMethodName, false, clientLimits().finish, func(ctx context.Context) error {
			_, err := b.Append(ctx, u, strings.NewReader("bytes"))
			return err
		}},
		{blobstorev1.BlobService_GetUpload_FullMethodName, true, read, func(ctx context.Context) error { _, err := b.Status(ctx, u); return err }},
		{blobstorev1.BlobService_CommitUpload_FullMethodName, true, clientLimits().finish, func(ctx context.Context) error {
			_, err := b.Commit(ctx, u, strings.NewReader("bytes"), d)
			return err
		}},
		{blobstorev1.BlobService_AbortUpload_FullMethodName, false, write, func(ctx context.Context) error { return b.Abort(ctx, u) }},
		{blobstorev1.BlobService_RemoveBlob_FullMethodName, true, write, func(ctx context.Context) error { return b.Remove(ctx, s) }},
		{blobstorev1.BlobService_VerifyBlob_FullMethodName, false, stream, func(ctx context.Context) error { return b.Verify(ctx, s, 0) }},
		{blobstorev1.BlobService_ListCopies_FullMethodName, true, read, func(ctx context.Context) error { _, err := b.Copies(ctx, "", nil, 1); return err }},
		{blobstorev1.BlobService_PresignBlob_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := b.(registry.Presigner).Presign(ctx, s)
			return err
		}},
		{blobstorev1.JournalService_AppendJournal_FullMethodName, true, write, func(ctx context.Context) error { return b.AppendJournal(ctx, "a", nil) }},
		{blobstorev1.JournalService_ReadJournal_FullMethodName, true, read, func(ctx context.Context) error { _, err := b.ReadJournal(ctx, "a"); return err }},
		{blobstorev1.JournalService_ListJournal_FullMethodName, true, read, func(ctx context.Context) error { _, err := b.ListJournal(ctx, "", 1); return err }},
		{blobstorev1.JournalService_RemoveJournal_FullMethodName, true, write, func(ctx context.Context) error { return b.RemoveJournal(ctx, "a") }},
		{blobstorev1.LayoutService_FindLayouts_FullMethodName, false, stream, func(ctx context.Context) error {
			for _, err := range b.(registry.LayoutReader).Layouts(ctx, "") {
				return err
			}
			return nil
		}},
		{blobstorev1.LayoutService_GetLayout_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := b.(registry.LayoutReader).LayoutStamp(ctx, "", "r")
			return err
		}},
		{blobstorev1.LayoutService_ReadLayoutIndex_FullMethodName, false, stream, func(ctx context.Context) error {
			_, err := b.(registry.LayoutReader).LayoutIndex(ctx, "", "r")
			return err
		}},
		{blobstorev1.LayoutService_ListLayoutCopies_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := b.(registry.LayoutReader).LayoutCopies(ctx, "", "r", []registry.Digest{d})
			return err
		}},
		{blobstorev1.LayoutService_TakeOverCopy_FullMethodName, false, stream, func(ctx context.Context) error {
			_, err := b.(registry.Layouts).TakeOver(ctx, s)
			return err
		}},
		{blobstorev1.LayoutService_ListLayoutFiles_FullMethodName, false, stream, func(ctx context.Context) error {
			for _, err := range b.(registry.Layouts).LayoutFiles(ctx, "", "r") {
				return err
			}
			return nil
		}},
		{blobstorev1.LayoutService_RemoveLayoutFiles_FullMethodName, true, write, func(ctx context.Context) error {
			_, err := b.(registry.Layouts).RemoveLayoutFiles(ctx, "", "r", []registry.Digest{d})
			return err
		}},
		{blobstorev1.LayoutService_RemoveLayout_FullMethodName, false, stream, func(ctx context.Context) error {
			_, err := b.(registry.Layouts).RemoveLayout(ctx, "", "r")
			return err
		}},
		{blobstorev1.BlobService_Check_FullMethodName, true, read, func(ctx context.Context) error { _, err := b.Check(ctx); return err }},

		{metadatav1.CatalogService_ListRepositories_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Repositories(ctx, a, registry.Page[registry.Name]{})
			return err
		}},
		{metadatav1.CatalogService_AdmitUpload_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Admit(ctx, a, "r"); return err }},
		{metadatav1.CatalogService_ListTags_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Tags(ctx, a, "r", registry.Page[registry.Tag]{})
			return err
		}},
		{metadatav1.CatalogService_ListTagHistory_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.TagHistory(ctx, a, "r", "t", 1); return err }},
		{metadatav1.CatalogService_GetManifest_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Manifest(ctx, a, "r", registry.ManifestQuery{})
			return err
		}},
		{metadatav1.CatalogService_PutManifest_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.PutManifest(ctx, a, "r", registry.ManifestPut{})
			return err
		}},
		{metadatav1.CatalogService_DeleteTag_FullMethodName, false, write, func(ctx context.Context) error { return c.DeleteTag(ctx, a, "r", "t", registry.Condition{}) }},
		{metadatav1.CatalogService_DeleteManifest_FullMethodName, false, write, func(ctx context.Context) error { return c.DeleteManifest(ctx, a, "r", d) }},
		{metadatav1.CatalogService_ListReferrers_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Referrers(ctx, a, "r", d, "", registry.Page[registry.Digest]{})
			return err
		}},
		{metadatav1.CatalogService_GetBlob_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Blob(ctx, a, "r", d); return err }},
		{metadatav1.CatalogService_LinkBlob_FullMethodName, false, write, func(ctx context.Context) error { _, err := c.Link(ctx, a, "r", s); return err }},
		{metadatav1.CatalogService_MountBlob_FullMethodName, false, write, func(ctx context.Context) error { _, err := c.Mount(ctx, a, "r", d, ""); return err }},
		{metadatav1.RetentionService_CountPulls_FullMethodName, false, write, func(ctx context.Context) error {
			return c.CountPulls(ctx, []registry.Pull{{Repository: "r", Digest: d}})
		}},
		{metadatav1.RetentionService_ListPulls_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.PullsOf(ctx, a, "r", d, registry.Page[registry.Tag]{})
			return err
		}},
		{metadatav1.RetentionService_ExplainRetention_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.ExplainRetention(ctx, a, "r", registry.Reference{}, registry.Page[string]{})
			return err
		}},
		{metadatav1.RetentionService_ApplyRetention_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.ApplyRetention(ctx, a, "r")
			return err
		}},
		{metadatav1.RetentionService_RollbackTag_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.RollbackTag(ctx, a, "r", "t", d, registry.Condition{})
			return err
		}},
		{metadatav1.LimitsService_ListReadOnly_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.ReadOnlys(ctx, a); return err }},
		{metadatav1.LimitsService_SetReadOnly_FullMethodName, false, write, func(ctx context.Context) error {
			return c.SetReadOnly(ctx, a, registry.ReadOnly{Repositories: "x"})
		}},
		{metadatav1.LimitsService_ClearReadOnly_FullMethodName, false, write, func(ctx context.Context) error { return c.ClearReadOnly(ctx, a, "x") }},
		{metadatav1.LimitsService_GetUsage_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Usage(ctx, a, "r"); return err }},
		{metadatav1.LimitsService_NoteUploads_FullMethodName, true, write, func(ctx context.Context) error {
			_, err := c.NoteUploads(ctx, nil, []string{"x"})
			return err
		}},
		{metadatav1.IdentitiesService_GetTrust_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Trust(ctx, 0); return err }},
		{metadatav1.IdentitiesService_RotateTokenKeys_FullMethodName, false, write, func(ctx context.Context) error { return c.RotateTokenKeys(ctx, a) }},
		{metadatav1.IdentitiesService_Login_FullMethodName, true, write, func(ctx context.Context) error { _, err := c.Login(ctx, registry.Login{ID: "a"}); return err }},
		{metadatav1.IdentitiesService_AddCredential_FullMethodName, false, write, func(ctx context.Context) error {
			return c.AddCredential(ctx, a, registry.Credential{}, nil)
		}},
		{metadatav1.IdentitiesService_UseCredential_FullMethodName, true, read, func(ctx context.Context) error {
			_, _, err := c.UseCredential(ctx, registry.APIKey, nil)
			return err
		}},
		{metadatav1.IdentitiesService_TakeCredential_FullMethodName, false, write, func(ctx context.Context) error {
			_, _, err := c.TakeCredential(ctx, registry.APIKey, nil)
			return err
		}},
		{metadatav1.IdentitiesService_ClaimCredential_FullMethodName, false, write, func(ctx context.Context) error {
			return c.ClaimCredential(ctx, a, registry.DeviceCode, "x")
		}},
		{metadatav1.IdentitiesService_ListCredentials_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Credentials(ctx, a, registry.APIKey, "a")
			return err
		}},
		{metadatav1.IdentitiesService_RemoveCredential_FullMethodName, false, write, func(ctx context.Context) error {
			return c.RemoveCredential(ctx, a, registry.APIKey, "a", "x")
		}},
		{metadatav1.IdentitiesService_ListUsers_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Users(ctx, a, registry.Page[string]{})
			return err
		}},
		{metadatav1.IdentitiesService_PutUser_FullMethodName, true, write, func(ctx context.Context) error { return c.PutUser(ctx, a, registry.User{ID: "x"}) }},
		{metadatav1.IdentitiesService_RemoveUser_FullMethodName, true, write, func(ctx context.Context) error { return c.RemoveUser(ctx, a, "x") }},
		{metadatav1.AccessService_CheckAccess_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Allowed(ctx, a, "r", registry.ActRead)
			return err
		}},
		{metadatav1.AccessService_GetAccessRules_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.AccessRules(ctx, a); return err }},
		{metadatav1.AccessService_ExplainAccess_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.ExplainAccess(ctx, a, a, "r", registry.Reference{}, registry.ActRead)
			return err
		}},
		{metadatav1.AccessService_CheckAccessRules_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.ReviewAccess(ctx, a, nil)
			return err
		}},
		{metadatav1.TakeOverService_ListTakeOvers_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.TakeOvers(ctx, a, registry.Page[registry.Name]{})
			return err
		}},
		{metadatav1.TakeOverService_FinishTakeOvers_FullMethodName, true, write, func(ctx context.Context) error { return c.FinishTakeOvers(ctx, a) }},
		{metadatav1.TakeOverService_GetTakeOverFinish_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.TakeOverFinish(ctx, a)
			return err
		}},
		{metadatav1.CacheService_PutCached_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.PutCached(ctx, a, "r", registry.ManifestPut{}, registry.Origin{})
			return err
		}},
		{metadatav1.CacheService_LinkCached_FullMethodName, false, write, func(ctx context.Context) error { _, err := c.LinkCached(ctx, a, "r", s); return err }},
		{metadatav1.CacheService_GetCacheUsage_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.CacheUsage(ctx, a); return err }},
		{metadatav1.CacheService_ListCached_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.CachedManifests(ctx, a, "r", registry.Page[registry.Digest]{})
			return err
		}},
		{metadatav1.CacheService_GetPushedTo_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.PushedTo(ctx, a, "r"); return err }},
		{metadatav1.CacheService_EvictCached_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.EvictCached(ctx, a, "r", registry.Reference{})
			return err
		}},
		{metadatav1.CacheService_UntagCached_FullMethodName, false, write, func(ctx context.Context) error { return c.UntagCached(ctx, a, "r", "t", d) }},
		{metadatav1.CacheService_ListPins_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Pins(ctx, a); return err }},
		{metadatav1.CacheService_SetPin_FullMethodName, false, write, func(ctx context.Context) error { return c.SetPin(ctx, a, registry.Pin{Pattern: "x"}) }},
		{metadatav1.CacheService_ClearPin_FullMethodName, false, write, func(ctx context.Context) error { return c.ClearPin(ctx, a, "x") }},
		{metadatav1.AuditService_RecordAudit_FullMethodName, true, write, func(ctx context.Context) error {
			return c.RecordAudit(ctx, []registry.AuditEvent{{ID: registry.NewAuditID(1)}})
		}},
		{metadatav1.AuditService_ListAudit_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.AuditLog(ctx, a, registry.AuditQuery{Limit: 1})
			return err
		}},
		{metadatav1.AnnouncementService_Announce_FullMethodName, true, write, func(ctx context.Context) error {
			return c.Announce(ctx, []registry.Announcement{{ID: registry.NewAuditID(1), Type: "x"}})
		}},
		{metadatav1.AnnouncementService_ListAnnouncements_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Announced(ctx, a, registry.AnnouncementQuery{Limit: 1})
			return err
		}},
		{metadatav1.AnnouncementService_ListSinks_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Sinks(ctx, a); return err }},
		{metadatav1.TrustService_ListTrusted_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Trusted(ctx); return err }},
		{metadatav1.TrustService_AddTrusted_FullMethodName, true, write, func(ctx context.Context) error { return c.AddTrusted(ctx, a, registry.TrustedKey{}) }},
		{metadatav1.TrustService_RemoveTrusted_FullMethodName, false, write, func(ctx context.Context) error { return c.RemoveTrusted(ctx, a, "x") }},
		{metadatav1.TrustService_ListParents_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Parents(ctx, a, "r", d); return err }},
		{metadatav1.SearchService_SearchImages_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.SearchImages(ctx, a, registry.ImageQuery{Limit: 1})
			return err
		}},
		{metadatav1.SearchService_SearchRepositories_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.SearchRepositories(ctx, a, registry.RepositoryQuery{Limit: 1})
			return err
		}},
		{metadatav1.SearchService_TogglePreference_FullMethodName, false, write, func(ctx context.Context) error {
			_, err := c.TogglePreference(ctx, a, "r", registry.Starred)
			return err
		}},
		{metadatav1.CatalogService_UnlinkBlob_FullMethodName, false, write, func(ctx context.Context) error { return c.Unlink(ctx, a, "r", d) }},
		{metadatav1.CatalogService_ListUploadKeys_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.UploadKeys(ctx); return err }},
		{metadatav1.CollectorService_DeleteRepository_FullMethodName, false, write, func(ctx context.Context) error { return c.DeleteRepository(ctx, a, "r") }},
		{metadatav1.CollectorService_ListDeleted_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Deleted(ctx, a, "r", registry.Page[registry.Cursor]{})
			return err
		}},
		{metadatav1.CollectorService_Undelete_FullMethodName, false, write, func(ctx context.Context) error {
			return c.Undelete(ctx, a, "r", registry.Reference{})
		}},
		{metadatav1.CollectorService_Purge_FullMethodName, false, write, func(ctx context.Context) error { return c.Purge(ctx, a, "r") }},
		{metadatav1.CollectorService_Collect_FullMethodName, false, write, func(ctx context.Context) error { _, err := c.Collect(ctx, a); return err }},
		{metadatav1.CollectorService_ListDoomed_FullMethodName, true, read, func(ctx context.Context) error {
			_, err := c.Plan(ctx, a, registry.Page[registry.Cursor]{})
			return err
		}},
		{metadatav1.ScrubService_ReportReads_FullMethodName, true, write, func(ctx context.Context) error {
			return c.ReportReads(ctx, []registry.ReadReport{{Stored: s}})
		}},
		{metadatav1.ScrubService_GetScrub_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.ScrubStatus(ctx, a); return err }},
		{metadatav1.ScrubService_StartScrub_FullMethodName, false, write, func(ctx context.Context) error { return c.StartScrub(ctx, a) }},
		{metadatav1.ScrubService_ListDamages_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Damages(ctx, a, nil, 1); return err }},
		{metadatav1.ExportService_Export_FullMethodName, false, stream, func(ctx context.Context) error {
			return c.Export(ctx, func([]byte) error { return nil })
		}},
		{metadatav1.CatalogService_Check_FullMethodName, true, read, func(ctx context.Context) error { _, err := c.Check(ctx); return err }},
	}
}

type methodCase struct {
	name  string
	again bool          // it may be sent to another replica after it reached one
	limit time.Duration // when it is given up
	call  func(ctx context.Context) error
}

// pings is what servers of ours allow.
var pings = grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true})

// farm is servers that do not know any service: what is asked of them, answer
// deals with.
type farm struct {
	answer func(stream grpc.ServerStream) error
	delay  time.Duration // before a connection is made

	mu    sync.Mutex
	calls map[string]int // by method
}

// connect starts the servers at addresses and returns a connection to them.
func (f *farm) connect(t *testing.T, addresses ...string) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	pipes := map[string]*bufconn.Listener{}
	var servers []*grpc.Server
	for _, at := range addresses {
		at = strings.TrimPrefix(at, "passthrough:///")
		pipes[at] = bufconn.Listen(1 << 16)
		srv := grpc.NewServer(pings, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			name, _ := grpc.MethodFromServerStream(stream)
			if name != "/grpc.health.v1.Health/Watch" {
				f.mu.Lock()
				f.calls[name]++
				f.mu.Unlock()
			}
			return f.answer(stream)
		}))
		servers = append(servers, srv)
		go srv.Serve(pipes[at])
	}
	conn, err := Dial(addresses, DialOptions{Dialer: func(ctx context.Context, address string) (net.Conn, error) {
		if err := pause(ctx, f.delay); err != nil {
			return nil, err
		}
		return pipes[address].DialContext(ctx)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return conn, func() {
		conn.Close()
		for _, s := range servers {
			s.Stop()
		}
	}
}

func (f *farm) count(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

// TestEveryMethodHasACase keeps the list above complete.
func TestEveryMethodHasACase(t *testing.T) {
	have := map[string]bool{}
	for _, m := range allMethods(nil) {
		have[m.name] = true
	}
	for name := range methods {
		if strings.HasPrefix(name, "/berth.") && !have[name] {
			t.Errorf("%s has no case", name)
		}
	}
}

// TestNeverTwice breaks the connection when a server has a request: what may not
// happen twice must not reach another server.
func TestNeverTwice(t *testing.T) {
	for i := range allMethods(nil) {
		synctest.Test(t, func(t *testing.T) {
			f := &farm{calls: map[string]int{}}
			f.answer = func(stream grpc.ServerStream) error {
				name, _ := grpc.MethodFromServerStream(stream)
				if name == "/grpc.health.v1.Health/Watch" {
					return errNoHealth
				}
				for range 2 { // the request, or the header and bytes
					if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
						break
					}
				}
				return errGone
			}
			conn, stop := f.connect(t, "a:1", "b:1")
			defer stop()
			m := allMethods(conn)[i]
			conn.Connect()
			synctest.Wait()
			wantErr(t, m.name, m.call(t.Context()), registry.ErrUnavailable)
			switch n := f.count(m.name); {
			case !m.again && n != 1:
				t.Errorf("%s was sent %d times, want once", m.name, n)
			case m.again && n != 3:
				t.Errorf("%s was sent %d times, want 3", m.name, n)
			}
		})
	}
}

// TestEveryMethodEnds calls servers that hang: after the request has arrived, and
// before there is a connection.
func TestEveryMethodEnds(t *testing.T) {
	for i := range allMethods(nil) {
		for _, hang := range []string{"in a handler", "in the handshake"} {
			synctest.Test(t, func(t *testing.T) {
				f := &farm{calls: map[string]int{}, answer: func(stream grpc.ServerStream) error {
					if name, _ := grpc.MethodFromServerStream(stream); name == "/grpc.health.v1.Health/Watch" {
						return errNoHealth
					}
					<-stream.Context().Done()
					return status.FromContextError(stream.Context().Err()).Err()
				}}
				if hang == "in the handshake" {
					f.delay = time.Hour
				}
				conn, stop := f.connect(t, "passthrough:///a:1")
				defer stop()
				m := allMethods(conn)[i]
				limit := m.limit
				if hang == "in the handshake" {
					limit = reconnect.MinConnectTimeout
				}
				began := time.Now()
				err := m.call(t.Context())
				wantErr(t, m.name, err, registry.ErrUnavailable)
				if took := time.Since(began); took < limit-time.Second || took > limit+time.Second {
					t.Errorf("%s, hanging %s: gave up after %v, want %v: %v", m.name, hang, took, limit, err)
				}
			})
		}
	}
}
