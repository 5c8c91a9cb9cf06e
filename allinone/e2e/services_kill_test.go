//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// serviceVictims are the programs of a system of many, and what /readyz of the gateway
// says while one is gone: "" if it has nothing to do with being ready, and none is what
// else can't be done then.
var serviceVictims = []struct {
	name, says string
	none       []string
}{
	{name: "gateway"},
	{name: "blobstore", says: "blobs: unavailable"},
	{name: "metadata", says: "catalog: unavailable"},
	{name: "syncer", none: []string{"mirrored pull"}},
	{name: "scanner", none: []string{"findings"}},
}

// TestG2ServiceKilled kills gateway, blobstore, metadata, syncer and scanner in turn
// with SIGKILL, while clients push, pull, move tags, delete, pull through a mirror and ask
// what is wrong with an image, and starts each again. Without syncer and scanner everything
// else goes on; without one of the others /readyz says which. When it is back every kind of
// operation succeeds again within seconds, though no other program was restarted;
// what is shown is what was acknowledged, `berth fsck --online` finds nothing, and no image
// ever passes a gate for which it is not known.
//
// SERVICE_KILLS is the number of kills of each (3), KILL_SEED the seed.
func TestG2ServiceKilled(t *testing.T) {
	kills := envInt(t, "SERVICE_KILLS", 3) * len(serviceVictims)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d kills, KILL_SEED=%d", kills, seed)
	u := newPacedUpstream(t, 128<<10, seed)
	port := strconv.Itoa(freePort(t))
	s := Start(t, Options{Topology: Split, Mirror: true, Scan: true, Edit: func(c map[string]any) {
		c["log"] = map[string]any{"level": "warn"}
		c["http"].(map[string]any)["port"] = port
		c["extensions"] = map[string]any{
			"sync":   map[string]any{"registries": []any{map[string]any{"urls": []string{u.url}, "onDemand": true, "content": []any{map[string]any{"prefix": "far/**"}}}}},
			"search": map[string]any{"cve": map[string]any{"trivy": map[string]any{"dbRepository": "http://127.0.0.1:" + port + "/db/trivy-db"}}},
			"gates":  []any{map[string]any{"repositories": []string{"gated/**"}, "severity": "HIGH", "unknown": "deny"}},
		}
	}})
	ops := maps.Clone(replicaKinds)
	ops["mirrored pull"] = func(c *replicaClient) error { return c.mirroredPull(s, u) }
	ops["findings"] = func(c *replicaClient) error { return c.findings(s) }
	l := newReplicaLoop(t, s, seed, ops)
	scanned(t, s, &l.clients[0].killClient)
	for n := range kills {
		victim := serviceVictims[n%len(serviceVictims)]
		p := s.of(victim.name)[0]
		where := l.where(n, p)
		rest := l.work(t, where)
		l.strike(t, p)
		if victim.none != nil {
			l.recovered(t, where+", while it is gone", time.Now(), victim.none...)
		}
		if victim.name != "gateway" {
			awaitSaid(t, s, victim.says)
		}
		l.model.again()
		began := time.Now()
		p.Restart(t)
		l.recovered(t, where, began)
		awaitSaid(t, s, "")
		rest()
		l.compare(t, where)
		if out, said, err := NewCommands(t).Try(Program(t, "berth"), "fsck", "--online", s.Config); err != nil {
			t.Errorf("%s: fsck: %v\n%s%s", where, err, out, said)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	report(t, l.model, kills)
	t.Logf("what clients had to live with: %v; slowest recovery %v", l.trouble(), l.slowest.Round(time.Millisecond))
	for i := len(s.Processes) - 1; i >= 0; i-- {
		if err := s.Processes[i].Stop(); err != nil {
			t.Error(err)
		}
	}
	checkStore(t, s, 24) // and reads all data
}

// awaitSaid waits until the gateway is not ready, and says why; or is, if there is no
// reason.
func awaitSaid(t *testing.T, s *System, why string) {
	t.Helper()
	status := http.StatusOK
	if why != "" {
		status = http.StatusServiceUnavailable
	}
	for deadline := time.Now().Add(recoverWithin); ; <-time.After(readyPause) {
		said, got, err := fetch(http.DefaultClient, s.URL()+"/readyz")
		if err == nil && got == status && strings.Contains(string(said), why) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz: %d, %q (%v), want %d and %q", got, said, err, status, why)
		}
	}
}

// mirroredPull pulls a blob that nobody has pulled before.
func (c *replicaClient) mirroredPull(s *System, u *pacedUpstream) error {
	d, content := u.add()
	done := c.model.begin(c.kind, nil)
	got, status, err := fetch(c.http, s.URL()+"/v2/far/away/blobs/"+d.String())
	switch {
	case err != nil:
	case status >= 500:
		err = fmt.Errorf("%w: GET %s: %d", errServer, d, status)
	case status != http.StatusOK || string(got) != string(content):
		err = fmt.Errorf("%w: GET %s: %d with %d bytes", errAnswer, d, status, len(got))
	}
	done(err == nil)
	return err
}

// findings asks what is wrong with an image, and for the image itself, which a gate
// withholds.
func (c *replicaClient) findings(s *System) error {
	query := url.QueryEscape(`{ CVEListForImage(image:"gated/app:1") { CVEList { Id } } }`)
	done := c.model.begin(c.kind, nil)
	said, status, err := fetch(c.http, s.URL()+"/v2/_zot/ext/search?query="+query)
	found := strings.Contains(string(said), "CVE-2099-0003")
	switch {
	case err != nil:
	case status >= 500 || status == http.StatusOK && strings.Contains(string(said), `"errors":[{`):
		err = fmt.Errorf("%w: GET findings: %d", errServer, max(status, 500))
	case status != http.StatusOK || !found:
		err = fmt.Errorf("%w: findings: %d, %s", errAnswer, status, said)
	}
	if err == nil {
		said, status, err = fetch(c.http, s.URL()+"/v2/gated/app/manifests/1")
		switch {
		case err != nil:
		case status >= 500:
			err = fmt.Errorf("%w: GET gated: %d", errServer, status)
		case status != http.StatusForbidden:
			err = fmt.Errorf("%w: a gate lets an image through: %d, %s", errAnswer, status, said)
		}
	}
	done(err == nil)
	return err
}

// scanned pushes a database of vulnerabilities and an image that has one, and lets it be
// scanned.
func scanned(t *testing.T, s *System, as *killClient) {
	t.Helper()
	db, empty := []byte(scanDatabase(t, time.Now().Add(-time.Hour))), []byte("{}")
	layer := []byte(tarOf(t, "etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n", "etc/alpine-release", "3.20.1\n", "lib/apk/db/installed", alpineInstalled))
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromBytes(layer))
	for _, x := range []struct {
		tag      string
		manifest []byte
		blobs    [][]byte
	}{
		{"db/trivy-db/manifests/2", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.aquasec.trivy.config.v1+json",
			"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},
			"layers":[{"mediaType":"application/vnd.aquasec.trivy.db.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
			imageManifest, digest.FromBytes(empty), digest.FromBytes(db), len(db)), [][]byte{empty, db}},
		{"gated/app/manifests/1", imageOf(config, "", layer), [][]byte{config, layer}},
	} {
		repo, _, _ := strings.Cut(x.tag, "/manifests/")
		c := &killClient{base: s.URL() + "/v2/" + repo, http: as.http}
		if err := c.pushImage(s.URL()+"/v2/"+x.tag, x.manifest, x.blobs...); err != nil {
			t.Fatal(err)
		}
	}
	run, gateway := NewCommands(t), s.of("gateway")[0].Args[1]
	if out := run.Run(t, Program(t, "berth"), "scan", "db", "update", gateway); !strings.Contains(out, "in use: ") {
		t.Fatalf("berth scan db update: %s", out)
	}
	if out := run.Run(t, Program(t, "berth"), "scan", "start", "--wait", gateway, "gated/app:1"); !strings.Contains(out, "done") {
		t.Fatalf("berth scan start: %s", out)
	}
}
