package scanner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/scanner/contents"
	"github.com/berth-registry/berth/services/scanner/vulndb"
)

// Blobs is what the scanner needs of a blobstore.
type Blobs interface {
	registry.BlobReader
	registry.Uploads
}

// Catalog is what the scanner needs of a catalog.
type Catalog interface {
	registry.Repositories
	registry.Tags
	registry.Manifests
	registry.Links
	registry.Announcements
}

// Vulnerabilities is a vulnerability database, [vulndb.DB].
type Vulnerabilities interface {
	Lookup(ctx context.Context, image *contents.Image) ([]registry.ScanFinding, string, error)
	Current() registry.ScanDB
	Load(r io.Reader, source string) (registry.ScanDB, error)
}

// Live are the options that may change while a [Service] runs.
type Live struct {
	// Off says that nothing is scanned, and no database fetched, by itself.
	Off bool
	// Pull says where databases come from; nil: from nowhere by itself.
	Pull *vulndb.Puller
	// Every is the time between two looks for a newer database.
	Every time.Duration
	// SBOM is the format of the bill that is attached to each image; "" for none.
	SBOM registry.SBOMFormat
}

// Options configure a [Service].
type Options struct {
	// Scratch is the directory for files of layers that are being looked at. What is
	// in it is removed.
	Scratch string
	Limits  contents.Limits
	// Time is how long the scan of an image may take; 0 is 5 minutes.
	Time time.Duration
	Live
	// Version of this program, for bills of materials.
	Version string
	Now     func() time.Time // nil is time.Now
	Metrics *metrics.Set     // nil: nobody wants to know
	Log     *slog.Logger
	// Idle says that nothing is to be done in the background, for tests.
	Idle bool
}

// Service implements [registry.Scans].
type Service struct {
	blobs   Blobs
	catalog Catalog
	vulns   Vulnerabilities
	store   store
	reader  contents.Reader
	o       Options // but for what is in live
	live    atomic.Pointer[Live]
	log     *slog.Logger
	meters  *meters

	ctx  context.Context // ends when the service closes
	stop context.CancelFunc
	work sync.WaitGroup
	// wake tells that there may be an image to scan, lookAgain that there is a newer
	// database, pullAgain that it comes from elsewhere or at other times.
	wake, lookAgain, pullAgain chan struct{}
	pulling                    sync.Mutex
	// otherwise says that images are to be looked up again though the database is the same,
	// elsewhere that it has to be fetched though the one in use is young.
	otherwise, elsewhere atomic.Bool

	mu      sync.Mutex
	running map[registry.Digest]*running
	dbErr   string          // of the last attempt to fetch a database
	have    registry.Digest // the layer that the database in use came as
}

// installation is who the scanner acts for when it reads images.
var installation = registry.Actor{ID: "berth-scanner", System: true}

// New opens a scanner over a database of its own, and goes on with what waits. Close
// ends it.
func New(ctx context.Context, db *sqldb.DB, blobs Blobs, catalog Catalog, vulns Vulnerabilities, o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Time == 0 {
		o.Time = 5 * time.Minute
	}
	// What a process that was killed has left there has a name only for a moment.
	if err := errors.Join(os.RemoveAll(o.Scratch), os.MkdirAll(o.Scratch, 0o700)); err != nil {
		return nil, fmt.Errorf("making the scanner's scratch directory: %w", err)
	}
	st, err := openStore(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("opening the scanner's database: %w", err)
	}
	s := &Service{
		blobs: blobs, catalog: catalog, vulns: vulns, store: st, o: o, log: o.Log,
		reader: contents.Reader{Limits: o.Limits, Dir: o.Scratch},
		wake:   make(chan struct{}, 1), lookAgain: make(chan struct{}, 1), pullAgain: make(chan struct{}, 1), running: make(map[registry.Digest]*running),
	}
	s.live.Store(&o.Live)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.meters = newMeters(o.Metrics, s)
	if o.Idle {
		return s, nil
	}
	s.work.Go(s.scanAll)
	s.work.Go(s.walkAll)
	s.work.Go(s.renewAll)
	s.work.Go(s.pullAll)
	return s, nil
}

// Set replaces the options that may change. Images that are being scanned end by the old
// ones.
func (s *Service) Set(next Live) {
	old := s.live.Swap(&next)
	if next.Pull != nil && (old.Pull == nil || next.Pull.Ref != old.Pull.Ref) {
		s.elsewhere.Store(true)
	}
	poke(s.pullAgain)
	poke(s.wake)
}

// Again has all images looked up again in the database that is in use.
func (s *Service) Again() {
	s.otherwise.Store(true)
	poke(s.lookAgain)
}

// Close ends the scanner's work. Images that are being scanned wait again.
func (s *Service) Close() error {
	s.stop()
	s.work.Wait()
	return nil
}

// Check implements [registry.Checker].
func (s *Service) Check(ctx context.Context) (registry.Health, error) {
	if err := s.store.db.Failed(); err != nil {
		return registry.Health{}, registry.ErrUnavailable.Because(err)
	}
	if err := s.store.db.Ping(ctx); err != nil {
		return registry.Health{}, registry.ErrUnavailable.Because(err)
	}
	return registry.Health{}, nil
}

func (s *Service) now() int64 { return s.o.Now().UnixMicro() }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is poked already
	}
}

// pause waits until c, a time or the end; it returns false at the end.
func (s *Service) pause(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
	case <-t.C:
	case <-s.ctx.Done():
		return false
	}
	return true
}
