//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestSearch runs the search commands of the guide as they are written, with curl and
// jq, and asks what they don't, in one process and over gRPC.
func TestSearch(t *testing.T) {
	commands := searchCommands(guideText(t))
	if len(commands) != 3 {
		t.Fatalf("the guide has %d commands that search, and not 3: %q", len(commands), commands)
	}
	for _, x := range []struct {
		name string
		opt  Options
	}{{"linked", Options{Topology: Linked}}, {"split-mtls", Options{Topology: SplitTLS}}} {
		t.Run(x.name, func(t *testing.T) {
			x.opt.Edit = func(config map[string]any) { config["extensions"] = map[string]any{"search": map[string]any{}} }
			s := Start(t, x.opt)
			amd, arm := pushFor(t, s, "myapp", "amd64", 1, "v1.0.0"), pushFor(t, s, "myapp", "arm64", 2, "v2.0.0")
			pushFor(t, s, "library/nginx", "amd64", 3, "alpine")
			waitSearched(t, s, 3)
			sh := NewCommands(t)
			out := make(map[string]string)
			for _, command := range commands {
				command = strings.NewReplacer("https://zot.example.com", s.URL(), "http://localhost:5000", s.URL()).Replace(command)
				got := sh.Run(t, "bash", "-e", "-o", "pipefail", "-c", command)
				for _, query := range []string{"CVEListForImage", "ImageListForCVE", "ImageList%7B"} {
					if strings.Contains(command, query) {
						out[query] = got
					}
				}
			}
			if got := compact(t, out["ImageList%7B"]); got != `{"data":{"ImageList":{"Name":["library/nginx","myapp"],"Tags":["library/nginx:alpine","myapp:v1.0.0","myapp:v2.0.0"]}}}` {
				t.Errorf("the guide's list of images: %s", got)
			}
			for _, query := range []string{"CVEListForImage", "ImageListForCVE"} { // nothing scans here
				if !strings.Contains(out[query], "CVE search is disabled") {
					t.Errorf("%s: %s", query, out[query])
				}
			}
			for query, want := range map[string]string{
				`{ImageList(repo:"",requestedPage:{limit:2,sortBy:UPDATE_TIME}){Page{TotalCount ItemCount} Results{RepoName LastUpdated}}}`: `{"data":{"ImageList":{"Page":{"TotalCount":3,"ItemCount":2},"Results":[
					{"RepoName":"library/nginx","LastUpdated":"2024-01-03T00:00:00Z"},{"RepoName":"myapp","LastUpdated":"2024-01-02T00:00:00Z"}]}}}`,
				`{GlobalSearch(query:"app",filter:{Arch:["arm64"]}){Repos{Name Platforms{Os Arch} NewestImage{Tag Digest}}}}`: `{"data":{"GlobalSearch":{"Repos":[{"Name":"myapp",
					"Platforms":[{"Os":"linux","Arch":"amd64"},{"Os":"linux","Arch":"arm64"}],"NewestImage":{"Tag":"v2.0.0","Digest":"` + arm + `"}}]}}}`,
				`{Image(image:"myapp:v1.0.0"){Digest Manifests{Platform{Arch} History{HistoryDescription{CreatedBy}}}}}`: `{"data":{"Image":{"Digest":"` + amd + `","Manifests":[{"Platform":{"Arch":"amd64"},"History":[{"HistoryDescription":{"CreatedBy":"RUN something"}}]}]}}}`,
			} {
				if got := search(t, s, query); got != compact(t, want) {
					t.Errorf("%s\ngot  %s\nwant %s", query, got, want)
				}
			}
			tag := sh.Run(t, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", s.URL()+"/v2/myapp/manifests/v2.0.0")
			if got := search(t, s, `{ImageList(repo:"myapp"){Tags}}`); got != `{"data":{"ImageList":{"Tags":["myapp:v1.0.0"]}}}` {
				t.Errorf("after DELETE of a tag (%s): %s", tag, got)
			}
			if got := sh.Run(t, "curl", "-fsS", s.URL()+"/v2/_oci/ext/discover"); !strings.Contains(got, "/v2/_zot/ext/search") {
				t.Errorf("discover: %s", got)
			}
		})
	}
}

// searchCommands returns the commands of the guide that search.
func searchCommands(guide string) []string {
	var all []string
	for line := range strings.Lines(guide) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") && strings.Contains(line, "/v2/_zot/ext/search?query=") {
			all = append(all, line)
		}
	}
	return all
}

// search returns the answer to a query.
func search(t *testing.T, s *System, query string) string {
	t.Helper()
	resp, err := http.Get(s.URL() + "/v2/_zot/ext/search?query=" + url.QueryEscape(query))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", query, resp.StatusCode, b.String(), err)
	}
	return compact(t, b.String())
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b.String()
}

// waitSearched waits until the configs of n images were read, which happens behind
// the pushes.
func waitSearched(t *testing.T, s *System, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := search(t, s, `{ImageList{Results{Manifests{Platform{Os}}}}}`)
		if strings.Count(got, `"Os":"linux"`) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the configs of %d images were not read: %s", n, got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pushFor pushes an image for a platform, made on a day of January 2024, and returns
// its digest.
func pushFor(t *testing.T, s *System, repo, arch string, day int, tag string) string {
	t.Helper()
	send := func(method, path, contentType string, data []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	blob := func(mediaType string, data []byte) image.Descriptor {
		t.Helper()
		d := digest.FromBytes(data)
		send("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", data)
		return image.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	config := blob(image.MediaTypeImageConfig, fmt.Appendf(nil, `{"created":"2024-01-%02dT00:00:00Z","os":"linux","architecture":%q,"history":[{"created_by":"RUN something"}],"rootfs":{"type":"layers"}}`, day, arch))
	layer := blob(image.MediaTypeImageLayer, []byte("layer of "+repo+arch))
	m := image.Manifest{MediaType: image.MediaTypeImageManifest, Config: config, Layers: []image.Descriptor{layer}}
	m.SchemaVersion = 2
	b := asJSON(t, m)
	send("PUT", "/v2/"+repo+"/manifests/"+tag, m.MediaType, b)
	return digest.FromBytes(b).String()
}
