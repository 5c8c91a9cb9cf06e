package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// onScans returns what runs a command that needs the process that scans.
func onScans(run func(context.Context, *storeCall, registry.Scans) error) func(context.Context, *storeCall) error {
	return func(ctx context.Context, c *storeCall) error {
		if c.Scans == nil {
			return errors.New("no process that scans could be reached: is the registry running?")
		}
		return run(ctx, c, c.Scans)
	}
}

// scanCommand are the commands about vulnerabilities.
func scanCommand(program string, parts Parts) cli.Command {
	name := program + " scan "
	var query registry.FindingQuery
	var wait bool
	selects := func(f *flag.FlagSet) {
		f.StringVar(&query.Severity, "severity", "", "only those of `SEVERITY`: UNKNOWN, LOW, MEDIUM, HIGH or CRITICAL")
		f.StringVar(&query.Search, "search", "", "only those with `TEXT` in ID, title or package")
	}
	return cli.Group(cli.Command{
		Name: "scan", Args: "COMMAND", Summary: "vulnerabilities of images: scan them, and look at what was found",
		Example: name + "report config.json library/alpine:latest",
	}, cli.Command{
		Name: "start", Args: "FILE REPO:TAG", Summary: "scan an image before all others, also one that is scanned",
		Example: name + "start --wait config.json library/alpine:latest",
		Run: onStore(parts, 1, 1, func(f *flag.FlagSet) { f.BoolVar(&wait, "wait", false, "wait for the end of the scan") },
			onScans(func(ctx context.Context, c *storeCall, s registry.Scans) error { return startScan(ctx, c, s, wait) })),
	}, cli.Command{
		Name: "status", Args: "FILE REPO[:TAG]", Summary: "what became of an image, or of each tag of a repository",
		Example: name + "status config.json library/alpine", Run: onStore(parts, 1, 1, nil, onScans(scanStatus)),
	}, cli.Command{
		Name: "report", Args: "FILE REPO:TAG", Summary: "what was found in an image, the worst first",
		Example: name + "report --severity CRITICAL config.json library/alpine:latest",
		Run:     onStore(parts, 1, 1, selects, onScans(func(ctx context.Context, c *storeCall, s registry.Scans) error { return scanReport(ctx, c, s, query) })),
	}, cli.Command{
		Name: "affected", Args: "FILE ID", Summary: "the images that have a vulnerability, by digest",
		Example: name + "affected config.json CVE-2024-3094", Run: onStore(parts, 1, 1, nil, onScans(scanAffected)),
	}, cli.Command{
		Name: "queue", Args: "FILE", Summary: "what is scanned now, what waits, and the vulnerability database in use",
		Example: name + "queue config.json", Run: onStore(parts, 0, 0, nil, onScans(scanQueue)),
	}, scanDBCommand(program, parts))
}

// scanDBCommand are the commands about the vulnerability database.
func scanDBCommand(program string, parts Parts) cli.Command {
	name := program + " scan db "
	return cli.Group(cli.Command{
		Name: "db", Args: "COMMAND", Summary: "the vulnerability database: import it from a file, or fetch it now",
		Example: name + "import config.json db.tar.gz",
	}, cli.Command{
		Name: "import", Args: "FILE DATABASE", Summary: "take a database from a file: db.tar.gz of its artifact, or trivy.db",
		Example: name + "import config.json db.tar.gz", Run: onStore(parts, 1, 1, nil, onScans(importScanDB)),
	}, cli.Command{
		Name: "update", Args: "FILE", Summary: "fetch the database now, if there is a newer one",
		Example: name + "update config.json", Run: onStore(parts, 0, 0, nil, onScans(updateScanDB)),
	})
}

// sbomCommand prints or attaches a bill of materials.
func sbomCommand(program string, parts Parts) cli.Command {
	var format string
	var attach bool
	return cli.Command{
		Name: "sbom", Args: "FILE REPO:TAG", Summary: "the bill of materials of an image: print it, or attach it as a referrer",
		Example: program + " sbom --format cyclonedx config.json library/alpine:latest\n" + program + " sbom --attach config.json library/alpine:latest",
		Run: onStore(parts, 1, 1, func(f *flag.FlagSet) {
			f.StringVar(&format, "format", string(registry.SPDX), "`FORMAT`: spdx-json or cyclonedx")
			f.BoolVar(&attach, "attach", false, "store it in the repository as a referrer of the image, unless there is one")
		}, onScans(func(ctx context.Context, c *storeCall, s registry.Scans) error {
			repo, m, err := c.image(ctx, c.args[0])
			if err != nil {
				return err
			}
			if !attach {
				b, err := s.SBOM(ctx, repo, m, registry.SBOMFormat(format))
				if err == nil {
					c.out.say("%s", b)
				}
				return err
			}
			d, err := s.AttachSBOM(ctx, operator, repo, m, registry.SBOMFormat(format))
			if err == nil {
				c.out.say("%s@%s", repo, d)
			}
			return err
		})),
	}
}

// image returns the manifest that REPO:TAG or REPO@DIGEST names.
func (c *storeCall) image(ctx context.Context, text string) (registry.Name, registry.Digest, error) {
	repo, ref, err := parseName(text)
	if err != nil {
		return "", "", err
	}
	if ref.Tag == "" && ref.Digest == "" {
		return "", "", wrongUsage("%q: must be REPO:TAG or REPO@DIGEST", text)
	}
	m, err := c.Catalog.Manifest(ctx, operator, repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
	return repo, m.Digest, err
}

func startScan(ctx context.Context, c *storeCall, s registry.Scans, wait bool) error {
	repo, d, err := c.image(ctx, c.args[0])
	if err != nil {
		return err
	}
	if err := s.ScanNow(ctx, repo, d); err != nil {
		return err
	}
	for wait {
		st, err := s.ScanStatus(ctx, repo, d)
		if err != nil {
			return err
		}
		if st.State != registry.ScanQueued && st.State != registry.ScanRunning {
			statusHeader(c)
			printStatus(c, c.args[0], st)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	c.out.say("%s: queued", c.args[0])
	return nil
}

func statusHeader(c *storeCall) {
	c.out.header("IMAGE", "STATE", "OS", "PACKAGES", "CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN", "SCANNED", "REASON")
}

func printStatus(c *storeCall, image string, st registry.ScanStatus) {
	n := func(s registry.Severity) string { return strconv.FormatInt(st.Counts[s], 10) }
	state := string(st.State)
	if st.State == registry.ScanDone && st.DB == "" {
		state = "no database"
	}
	c.out.row(map[string]any{"image": image, "status": st}, image, orDash(state), orDash(st.OS), strconv.FormatInt(st.Packages, 10),
		n(registry.SeverityCritical), n(registry.SeverityHigh), n(registry.SeverityMedium), n(registry.SeverityLow), n(registry.SeverityUnknown),
		moment(st.At), orDash(st.Reason))
}

func scanStatus(ctx context.Context, c *storeCall, s registry.Scans) error {
	repo, ref, err := parseName(c.args[0])
	if err != nil {
		return err
	}
	statusHeader(c)
	one := func(text string, ref registry.Reference) error {
		m, err := c.Catalog.Manifest(ctx, operator, repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
		if err != nil {
			return err
		}
		all, err := s.ScanStatuses(ctx, []registry.Digest{m.Digest})
		if err == nil && len(all) == 1 {
			printStatus(c, text, all[0])
		}
		return err
	}
	if ref.Tag != "" || ref.Digest != "" {
		return one(c.args[0], ref)
	}
	page := registry.Page[registry.Tag]{Limit: 1000}
	for {
		list, err := c.Catalog.Tags(ctx, operator, repo, page)
		if err != nil {
			return err
		}
		for _, t := range list.Items {
			if err := one(string(repo)+":"+string(t), registry.Reference{Tag: t}); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				return err
			}
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
		page.After = list.Items[len(list.Items)-1]
	}
}

func scanReport(ctx context.Context, c *storeCall, s registry.Scans, q registry.FindingQuery) error {
	repo, d, err := c.image(ctx, c.args[0])
	if err != nil {
		return err
	}
	st, err := s.ScanStatus(ctx, repo, d)
	if err != nil {
		return err
	}
	if st.State != registry.ScanDone {
		return registry.ErrUnavailable.With("%s is %s: %s", c.args[0], st.State, orDash(st.Reason))
	}
	q.Limit = 1000
	c.out.header("ID", "SEVERITY", "PACKAGE", "VERSION", "FIXED", "PATH", "LAYER", "TITLE")
	for {
		page, err := s.Findings(ctx, d, q)
		if err != nil {
			return err
		}
		for _, f := range page.Items {
			for _, p := range f.Packages {
				c.out.row(map[string]any{"id": f.ID, "severity": f.Severity, "title": f.Title, "reference": f.Reference, "package": p},
					f.ID, f.Severity.String(), p.Name, p.Version, orDash(p.Fixed), orDash(p.Path), orDash(shortDigest(p.Layer)), orDash(f.Title))
			}
		}
		if q.Offset += len(page.Items); len(page.Items) == 0 || int64(q.Offset) >= page.Total {
			return nil
		}
	}
}

// shortDigest returns as much of a digest as people need.
func shortDigest(d registry.Digest) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex[:min(len(hex), 12)]
}

func scanAffected(ctx context.Context, c *storeCall, s registry.Scans) error {
	page := registry.Page[registry.Digest]{Limit: 1000}
	for {
		list, err := s.AffectedImages(ctx, c.args[0], page)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			c.out.row(map[string]any{"digest": d}, string(d))
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
		page.After = list.Items[len(list.Items)-1]
	}
}

func scanQueue(ctx context.Context, c *storeCall, s registry.Scans) error {
	q, err := s.ScanQueue(ctx)
	if err != nil {
		return err
	}
	line := func(key, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		c.out.row(map[string]any{"what": key, "text": text}, key, text)
	}
	c.out.header("WHAT", "")
	line("database", "%s, made %s, here since %s, from %s", orDash(q.DB.Version[:min(len(q.DB.Version), 12)]), moment(q.DB.Updated), moment(q.DB.Loaded), orDash(q.DB.Source))
	if q.DB.Error != "" {
		line("not renewed", "%s", q.DB.Error)
	}
	line("waiting", "%d", q.Waiting)
	line("looked up in an older database", "%d", q.Stale)
	line("done, failed, not to be scanned", "%d, %d, %d", q.Done, q.Failed, q.Unsupported)
	for _, r := range q.Running {
		line("scanning", "%s@%s: %d of %d layers, %d bytes, since %s", r.Repository, r.Digest, r.LayersDone, r.Layers, r.Bytes, moment(r.Since))
	}
	return nil
}

func importScanDB(ctx context.Context, c *storeCall, s registry.Scans) error {
	f, err := os.Open(c.args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	db, err := s.ImportDB(ctx, f)
	if err == nil {
		c.out.say("in use: %s, made %s", db.Version[:min(len(db.Version), 12)], moment(db.Updated))
	}
	return err
}

func updateScanDB(ctx context.Context, c *storeCall, s registry.Scans) error {
	db, err := s.UpdateDB(ctx)
	if err == nil {
		c.out.say("in use: %s, made %s, from %s", orDash(db.Version[:min(len(db.Version), 12)]), moment(db.Updated), orDash(db.Source))
	}
	return err
}
