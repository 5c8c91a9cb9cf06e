package allinone

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// backup are the commands about backups.
func backup(program string, parts Parts) cli.Command {
	name := program + " backup "
	return cli.Group(cli.Command{
		Name: "backup", Args: "COMMAND", Summary: "make, check and restore backups of a store, running or stopped",
		Example: name + "create config.json --to /mnt/backup",
	},
		cli.Command{
			Name: "create", Args: "FILE --to TARGET", Summary: "add a backup to a directory or bucket; only blobs that are not there yet are copied. Exit code 1 if some have no intact copy",
			Example: name + "create config.json --to /mnt/backup\n" + name + "create config.json --to 's3://backups/berth?region=eu-central-1'",
			Run:     backupRun(1, "to", func(ctx context.Context, r *backupRequest) error { return r.create(ctx, parts) }),
		},
		cli.Command{
			Name: "list", Args: "--from TARGET", Summary: "the complete backups of a directory or bucket, the oldest first",
			Example: name + "list --from /mnt/backup",
			Run:     backupRun(0, "from", func(ctx context.Context, r *backupRequest) error { return r.list(ctx, parts) }),
		},
		cli.Command{
			Name: "verify", Args: "--from TARGET", Summary: "check that a backup is complete, and with --read-data or --read-data-subset the bytes. Exit code 1 with findings",
			Example: name + "verify --from /mnt/backup --read-data-subset 5%",
			Run:     backupRun(0, "from", func(ctx context.Context, r *backupRequest) error { return r.verify(ctx, parts) }),
		},
		cli.Command{
			Name: "restore", Args: "FILE --from TARGET", Summary: "fill the empty store that a config file describes; run it again to go on after an interruption. Exit code 1 if some blobs have no intact copy",
			Example: name + "restore new.json --from /mnt/backup && " + program + " fsck --read-data new.json",
			Run:     backupRun(1, "from", func(ctx context.Context, r *backupRequest) error { return r.restore(ctx, parts) }),
		})
}

// backupRequest is what the command line says.
type backupRequest struct {
	file     string
	target   string
	id       string // of a backup; "": the latest
	workers  int
	subset   subset
	out      io.Writer
	json     *json.Encoder // nil: text
	report   func(registry.Finding) error
	findings int
	log      *slog.Logger
}

// backupRun returns the Run of a backup command with a config file or none, whose
// target is in a flag of that name.
func backupRun(files int, flagName string, run func(context.Context, *backupRequest) error) func(context.Context, *flag.FlagSet, []string, io.Writer) error {
	return func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
		r := &backupRequest{out: out, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
		flags.StringVar(&r.target, flagName, "", "`TARGET`: a directory, or s3://BUCKET/PREFIX?KEY=VALUE with the keys of storageDriver, such as region and regionendpoint")
		asJSON := flags.Bool("json", false, "print each backup and each finding as a line of JSON")
		flags.IntVar(&r.workers, "workers", 4, "how many blobs to copy or read at a time")
		if flagName == "from" {
			flags.StringVar(&r.id, "backup", "", "`ID` of the backup; the latest if absent")
			r.subset.define(flags)
		}
		args, err := cli.ParseArgs(flags, args, files)
		if err == nil && (len(args) < files || r.target == "") {
			err = daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("%s: --%s and, but for list and verify, a config file are needed", flags.Name(), flagName)}
		}
		if err == nil {
			err = r.subset.parse()
		}
		if err != nil {
			return err
		}
		if files > 0 {
			r.file = args[0]
		}
		print := printer(out, *asJSON)
		r.report = func(f registry.Finding) error {
			r.findings++
			return print(f)
		}
		if *asJSON {
			r.json, r.out = json.NewEncoder(out), io.Discard
		}
		switch err := run(ctx, r); {
		case err != nil:
			return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("%s: %w", flags.Name(), err)}
		case r.findings > 0:
			return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("%s: %d findings", flags.Name(), r.findings)}
		}
		return nil
	}
}

// openTarget opens where backups are kept: a pool of its own.
func (r *backupRequest) openTarget(ctx context.Context, parts Parts, make bool) (Blobs, error) {
	p := config.Pool{RootDirectory: r.target}
	if strings.HasPrefix(r.target, "s3://") {
		var err error
		if p, err = bucketOf(r.target); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(filepath.Join(r.target, ".berth")); err != nil && !make {
		return nil, fmt.Errorf("there are no backups: %w", err)
	}
	target, err := parts.Pool(ctx, p, r.log)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", withoutKeys(r.target), err)
	}
	return target, nil
}

// bucketOf returns what s3://BUCKET/PREFIX?KEY=VALUE means.
func bucketOf(target string) (config.Pool, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return config.Pool{}, fmt.Errorf("%q is not s3://BUCKET/PREFIX?KEY=VALUE", withoutKeys(target))
	}
	p := config.Pool{StorageDriver: config.Driver{"name": "s3", "bucket": u.Host, "rootdirectory": u.Path}}
	for key, values := range u.Query() {
		p.StorageDriver[strings.ToLower(key)] = values[0]
	}
	return p, nil
}

// withoutKeys returns a target without its parameters, which may be secrets.
func withoutKeys(target string) string {
	name, _, _ := strings.Cut(target, "?")
	return name
}

// A backup is the objects backup-ID.ROUND.NUMBER of the target's journal, which are
// the parts of an export, the blobs that they name among those of the target, and
// the object backup-ID.HASH.json, which completes it and has the hash of its content
// in its name.
const backupPrefix = "backup-"

// backupManifest is the last object of a backup.
type backupManifest struct {
	Format  int      `json:"format"`
	ID      string   `json:"id"`
	Begun   int64    `json:"begun"` // microseconds since 1970
	Ended   int64    `json:"ended"`
	Round   string   `json:"round"` // of the parts
	Parts   []string `json:"parts"` // SHA-256 of each
	Blobs   int64    `json:"blobs"`
	Bytes   int64    `json:"bytes"`
	Damaged []string `json:"damaged,omitempty"` // blobs that had no intact copy
	digest  string
}

const backupFormat = 1

func (m *backupManifest) part(i int) string {
	return fmt.Sprintf("%s%s.%s.%06d", backupPrefix, m.ID, m.Round, i)
}

// backups returns the complete backups of a target, the oldest first. One whose
// manifest is damaged is told to damaged.
func backups(ctx context.Context, target registry.Journal, damaged func(name string, err error) error) ([]*backupManifest, error) {
	var all []*backupManifest
	after := backupPrefix
	for {
		page, err := target.ListJournal(ctx, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, name := range page {
			after = name
			if !strings.HasPrefix(name, backupPrefix) || !strings.HasSuffix(name, ".json") {
				continue
			}
			m, err := readBackup(ctx, target, name)
			if err != nil {
				if err := damaged(name, err); err != nil {
					return nil, err
				}
				continue
			}
			all = append(all, m)
		}
		if len(page) < 1000 {
			// Of names only the second can be told.
			slices.SortFunc(all, func(a, b *backupManifest) int {
				return cmp.Or(cmp.Compare(a.Begun, b.Begun), strings.Compare(a.ID, b.ID))
			})
			return all, nil
		}
	}
}

func readBackup(ctx context.Context, target registry.Journal, name string) (*backupManifest, error) {
	content, err := target.ReadJournal(ctx, name)
	if err != nil {
		return nil, err
	}
	words := strings.Split(name, ".")
	m := new(backupManifest)
	switch sum := sha256.Sum256(content); {
	case len(words) != 3 || words[1] != hex.EncodeToString(sum[:]):
		return nil, registry.ErrDigestInvalid
	case json.Unmarshal(content, m) != nil || m.ID != strings.TrimPrefix(words[0], backupPrefix):
		return nil, registry.ErrDigestInvalid
	case m.Format != backupFormat:
		return nil, fmt.Errorf("%s has format %d, which this program does not know: use a newer one", name, m.Format)
	}
	m.digest = words[1]
	return m, nil
}

// find returns the backup that the command line names.
func (r *backupRequest) find(ctx context.Context, target registry.Journal) (*backupManifest, error) {
	all, err := backups(ctx, target, func(name string, err error) error {
		if r.id != "" && !strings.HasPrefix(name, backupPrefix+r.id+".") {
			return nil
		}
		return r.report(registry.Finding{Invariant: "I12", Problem: fmt.Sprintf("the manifest %s of a backup is damaged: %v", name, err)})
	})
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if r.id == "" || all[i].ID == r.id {
			return all[i], nil
		}
	}
	return nil, errors.New("there is no such complete backup")
}

func (r *backupRequest) list(ctx context.Context, parts Parts) (err error) {
	target, err := r.openTarget(ctx, parts, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	all, err := backups(ctx, target, func(name string, err error) error {
		return r.report(registry.Finding{Invariant: "I12", Problem: fmt.Sprintf("the manifest %s of a backup is damaged: %v", name, err)})
	})
	for _, m := range all {
		if err == nil {
			err = r.tell(m, "  sha256:"+m.digest)
		}
	}
	return err
}

// tell prints a backup, with what of it is worth saying to people.
func (r *backupRequest) tell(m *backupManifest, what string) error {
	if r.json == nil {
		_, err := fmt.Fprintf(r.out, "%s  %d blobs, %.1f MB%s\n", m.ID, m.Blobs, float64(m.Bytes)/1e6, what)
		return err
	}
	return r.json.Encode(map[string]any{
		"backup": m.ID, "digest": "sha256:" + m.digest, "begun": instant(m.Begun), "ended": instant(m.Ended),
		"blobs": m.Blobs, "bytes": m.Bytes, "damaged": len(m.Damaged),
	})
}
