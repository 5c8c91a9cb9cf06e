package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

type header = tar.Header

// archiveOf returns an archive with these entries; the content of a file is x's.
func archiveOf(t testing.TB, entries ...header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestS135Archive wants what could lead out of an archive, or be read in two ways, to
// be refused.
func TestS135Archive(t *testing.T) {
	huge := archiveOf(t, header{Name: "a", Size: 3})
	copy(huge[124:136], "77777777777\x00") // 8 GiB
	copy(huge[148:156], "        ")
	sum := 0
	for _, c := range huge[:512] {
		sum += int(c)
	}
	copy(huge[148:156], fmt.Sprintf("%06o\x00 ", sum))
	for name, tt := range map[string]struct {
		archive []byte
		want    string // of the error; "" if none
	}{
		"fine":             {archiveOf(t, header{Name: "./a/b", Size: 3}, header{Name: "d/", Typeflag: tar.TypeDir}), ""},
		"above":            {archiveOf(t, header{Name: "../a"}), "is no name"},
		"above, inside":    {archiveOf(t, header{Name: "a/../../b"}), "is no name"},
		"absolute":         {archiveOf(t, header{Name: "/etc/passwd"}), "is no name"},
		"backslash":        {archiveOf(t, header{Name: `a\..\b`}), "is no name"},
		"twice":            {archiveOf(t, header{Name: "a"}, header{Name: "./a"}), "more than once"},
		"device":           {archiveOf(t, header{Name: "a", Typeflag: tar.TypeBlock}), "is no file"},
		"FIFO":             {archiveOf(t, header{Name: "a", Typeflag: tar.TypeFifo}), "is no file"},
		"link out":         {archiveOf(t, header{Name: "a/b", Typeflag: tar.TypeSymlink, Linkname: "../../x"}), "is no name"},
		"absolute link":    {archiveOf(t, header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), "out of the archive"},
		"hard link out":    {archiveOf(t, header{Name: "a", Typeflag: tar.TypeLink, Linkname: "../x"}), "is no name"},
		"long name":        {archiveOf(t, header{Name: strings.Repeat("a/", 600) + "b"}), "is no name"},
		"cut":              {archiveOf(t, header{Name: "a", Size: 5000})[:2000], ErrMalformed.Error()},
		"longer than it":   {huge, "longer than the archive"},
		"compressed":       {[]byte("\x1f\x8b\x08 and so on"), "gunzip"},
		"other compressed": {[]byte("\x28\xb5\x2f\xfd and so on"), "zstd -d"},
		"no archive":       {bytes.Repeat([]byte("no archive"), 200), ErrMalformed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readTar(bytes.NewReader(tt.archive), int64(len(tt.archive)))
			if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrMalformed)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestArchiveLinks reads what links in an archive name.
func TestArchiveLinks(t *testing.T) {
	b := archiveOf(t,
		header{Name: "a/file", Size: 3},
		header{Name: "b/soft", Typeflag: tar.TypeSymlink, Linkname: "../a/file"},
		header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "a/file"},
		header{Name: "twice", Typeflag: tar.TypeLink, Linkname: "hard"},
		header{Name: "itself", Typeflag: tar.TypeSymlink, Linkname: "itself"},
		header{Name: "dangling", Typeflag: tar.TypeLink, Linkname: "none"},
	)
	a, err := readTar(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{"a/file": true, "b/soft": true, "hard": true, "twice": false, "itself": false, "dangling": false, "none": false} {
		got, err := readAll(a, name, 10)
		if ok && (err != nil || string(got) != "xxx") || !ok && err == nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestS135DirectoryLinks reads nothing out of a directory.
func TestS135DirectoryLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"file": filepath.Join(outside, "secret"), "dir": outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"file", "dir/secret", "../" + filepath.Base(outside) + "/secret"} {
		if r, _, err := d.open(name); err == nil {
			b, _ := io.ReadAll(r)
			t.Errorf("%s: read %q", name, b)
		}
	}
}

// TestRepositoryNamedBlobs finds the layout of a repository below another one's blobs.
func TestRepositoryNamedBlobs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"app", "app/blobs", "app/blobs/x", "app/blobs/sha256/content"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "oci-layout"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.dirsWith("oci-layout")
	slices.Sort(got)
	if want := []string{"app", "app/blobs", "app/blobs/x"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestDockerV1 reads the form that docker before 1.10 wrote.
func TestDockerV1(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"repositories":    `{"registry.example/old/app":{"v1":"bb"}}`,
		"aa/json":         `{"id":"aa","created":"2014-01-01T00:00:00Z"}`,
		"aa/layer.tar":    "below",
		"bb/json":         `{"id":"bb","parent":"aa","architecture":"amd64","os":"linux","created":"2014-01-02T00:00:00Z"}`,
		"bb/layer.tar":    "above",
		"cc/unconcerned":  "x",
		"bb/VERSION":      "1.0",
		"aa/VERSION/none": "x",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	blobs := memory.NewBlobs()
	catalog := memory.NewCatalog(memory.CatalogOptions{})
	done, err := (&Import{Store: Store{Blobs: blobs, Catalog: catalog}}).Run(t.Context(), dir)
	if err != nil || done.Manifests != 1 || done.Blobs != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	m, err := catalog.Manifest(t.Context(), registry.Actor{}, "old/app", registry.ManifestQuery{Ref: registry.Reference{Tag: "v1"}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil || len(info.References) != 3 || info.References[1].Digest != registry.SHA256.FromString("below") || info.References[2].Digest != registry.SHA256.FromString("above") {
		t.Errorf("%+v, %v", info, err)
	}
}

// FuzzArchive reads archives that somebody made, and all that they name.
func FuzzArchive(f *testing.F) {
	f.Add(archiveOf(f, header{Name: "oci-layout", Size: 3}, header{Name: "index.json", Size: 10}))
	f.Add(archiveOf(f, header{Name: "a/file", Size: 3}, header{Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a/file"}))
	f.Add([]byte{})
	for _, files := range []map[string]string{
		{"oci-layout": "{}", "index.json": `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `","annotations":{"org.opencontainers.image.ref.name":"a"}}]}`},
		{"manifest.json": `[{"Config":"c","RepoTags":["a:b"],"Layers":["l"]}]`, "c": "{}", "l": "layer"},
		{"repositories": `{"a":{"b":"c"}}`, "c/json": `{"parent":""}`, "c/layer.tar": "x"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, text := range files {
			if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
				f.Fatal(err)
			}
			if _, err := w.Write([]byte(text)); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readTar(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for name := range a.entries {
			r, size, err := a.open(name)
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, r); err != nil || n != size || n > int64(len(b)) {
				t.Errorf("%q: %d of %d bytes, %v", name, n, size, err)
			}
		}
		bundles, err := read(a, nil)
		if err != nil {
			return
		}
		for _, l := range bundles {
			for _, i := range l.images {
				if _, err := readManifestOf(l, i.Descriptor); err != nil && errors.Is(err, fs.ErrPermission) {
					t.Error(err)
				}
			}
		}
	})
}

// FuzzReceipt reads receipts.
func FuzzReceipt(f *testing.F) {
	f.Add(receiptHead + "now\nhas sha256:" + strings.Repeat("0", 64) + "\ntag a:b sha256:" + strings.Repeat("1", 64) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseReceipt(strings.NewReader(text))
		if err == nil && len(s.has)+len(s.tags)+len(s.manifests) > strings.Count(text, "\n")+1 {
			t.Error("more entries than lines")
		}
	})
}

// TestFinishSyncsDirectories: the names of what was exported outlast a power cut, also
// of what a run before had put.
func TestFinishSyncsDirectories(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a/blobs/x", "b/y"} {
		s, err := openSink(dir)
		if err != nil {
			t.Fatal(err)
		}
		d := s.(directorySink)
		var synced []string
		syncs := d.syncDir
		d.syncDir = func(name string) error { synced = append(synced, name); return syncs(name) }
		if err := errors.Join(d.put(name, 1, strings.NewReader("1")), d.link("l/"+filepath.Base(name), name)); err != nil {
			t.Fatal(err)
		}
		if name == "b/y" {
			if err := d.finish(); err != nil {
				t.Fatal(err)
			}
			if want := []string{".", "a", "a/blobs", "b", "l"}; !slices.Equal(synced, want) {
				t.Errorf("synced %v, want %v", synced, want)
			}
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
}
