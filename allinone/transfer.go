package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/transfer"
)

// importer is the command that brings images from files into a registry.
func importer(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "import", Args: "FILE SOURCE...",
		Summary: "bring images from OCI layouts, OCI archives, docker archives and zot's buckets into a registry, running or stopped; run it again to go on after an interruption. Exit code 1 if some images could not be imported",
		Example: program + " import config.json saved.tar --repo team/app\n" + program + " import config.json /mnt/usb/export --verify site.pub --receipt have.txt\n" +
			program + " import config.json 's3://zot/root?region=eu-central-1'",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			repo := flags.String("repo", "", "`NAME` of the repository for images without a name, and the prefix of those that have one")
			verify := flags.String("verify", "", "public key `FILE` (Ed25519, PEM) that the source must be signed with")
			receipt := flags.String("receipt", "", "`FILE` to write what the registry has then, for export --since on the other side")
			args, err := cli.ParseArgs(flags, args, 1000)
			if err != nil {
				return err
			}
			if len(args) == 0 || len(args) == 1 && *receipt == "" {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("import: a config file and what to import are needed")}
			}
			i := &transfer.Import{Progress: transferProgress(out)}
			if *repo != "" {
				if i.Repo, err = registry.ParseName(*repo); err != nil {
					return daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("import: --repo: %w", err)}
				}
			}
			if *verify != "" {
				if i.Verify, err = transfer.ReadKey(*verify); err != nil {
					return fmt.Errorf("import: %w", err)
				}
			}
			failed := 0
			i.Failed = func(err error) {
				failed++
				fmt.Fprintln(out, err)
			}
			err = withStore(ctx, args[0], parts, true, func(s transfer.Store) error {
				i.Store = s
				for _, source := range args[1:] {
					done, err := importFrom(ctx, i, source, parts)
					if err != nil {
						return fmt.Errorf("%s: %w", withoutKeys(source), err)
					}
					fmt.Fprintf(out, "%s: %d manifests, %d blobs (%d bytes) imported, %d blobs were there\n", withoutKeys(source), done.Manifests, done.Blobs, done.Bytes, done.Present)
				}
				if *receipt == "" {
					return nil
				}
				return writeFile(*receipt, func(w io.Writer) error { return transfer.WriteReceipt(ctx, s, time.Now(), w) })
			})
			switch {
			case err != nil:
				return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("import: %w", err)}
			case failed > 0:
				return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("import: %d images could not be imported", failed)}
			}
			return nil
		},
	}
}

// exporter is the command that writes images of a registry to files.
func exporter(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "export", Args: "FILE DEST REPO[:TAG|@DIGEST]...",
		Summary: "write images of a registry, running or stopped, with their referrers to OCI layouts in directory DEST, or to an archive DEST.tar; exit code 1 if some of their content is missing here",
		Example: program + " export config.json app.tar team/app:v1\n" + program + " export config.json /mnt/usb/export --all --since have.txt --sign site.key",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			all := flags.Bool("all", false, "export the whole registry")
			since := flags.String("since", "", "leave out what the other side has: `RECEIPT` of its import, or what was here at a time (RFC 3339)")
			sign := flags.String("sign", "", "private key `FILE` (Ed25519, PKCS #8, PEM) to sign the export with")
			args, err := cli.ParseArgs(flags, args, 10_000)
			if err != nil {
				return err
			}
			if len(args) < 2 || (len(args) == 2) != *all {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("export: a config file, where to, and either images or --all are needed")}
			}
			missing := 0
			e := &transfer.Export{Now: time.Now(), Progress: transferProgress(out), Missing: func(n registry.Name, d registry.Digest) {
				missing++
				fmt.Fprintf(out, "repository %s: %s, which a manifest needs, is not there\n", n, d)
			}}
			var refs []transfer.Ref
			for _, a := range args[2:] {
				r, err := transfer.ParseRef(a)
				if err != nil {
					return daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("export: %s: %w", a, err)}
				}
				refs = append(refs, r)
			}
			if *sign != "" {
				if e.Sign, err = transfer.ReadKey(*sign); err != nil {
					return fmt.Errorf("export: %w", err)
				}
			}
			err = withStore(ctx, args[0], parts, false, func(s transfer.Store) error {
				e.Store = s
				if e.Since, err = readSince(ctx, s, *since); err != nil {
					return err
				}
				done, err := e.Run(ctx, withoutTransport(args[1]), refs)
				if err == nil {
					fmt.Fprintf(out, "%d manifests, %d blobs (%d bytes) exported, %d files were there\n", done.Manifests, done.Blobs, done.Bytes, done.Present)
				}
				return err
			})
			switch {
			case err != nil:
				return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("export: %w", err)}
			case missing > 0:
				return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("export: %d blobs or manifests are missing", missing)}
			}
			return nil
		},
	}
}

// readSince reads what --since says. "" is nil.
func readSince(ctx context.Context, s transfer.Store, since string) (*transfer.Since, error) {
	if since == "" {
		return nil, nil
	}
	if at, err := time.Parse(time.RFC3339, since); err == nil {
		return transfer.SinceTime(ctx, s, at)
	}
	return transfer.ReadReceipt(since)
}

// withoutTransport drops what skopeo writes before the name of a file.
func importFrom(ctx context.Context, i *transfer.Import, source string, parts Parts) (transfer.Progress, error) {
	if !strings.HasPrefix(source, "s3://") {
		return i.Run(ctx, withoutTransport(source))
	}
	if parts.Tree == nil {
		return transfer.Progress{}, errors.New("this program can't read buckets; berth can")
	}
	p, err := bucketOf(source)
	if err != nil {
		return transfer.Progress{}, err
	}
	src, err := parts.Tree(ctx, p)
	if err != nil {
		return transfer.Progress{}, err
	}
	defer src.Close()
	return i.RunFrom(ctx, src)
}

func withoutTransport(s string) string {
	for _, t := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		if rest, ok := strings.CutPrefix(s, t); ok {
			return rest
		}
	}
	return s
}

// withStore reaches the store of a config file and calls f. With create it makes
// one if there is none.
func withStore(ctx context.Context, file string, parts Parts, create bool, f func(transfer.Store) error) (err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return err
	}
	if create && onDisk(cfg) {
		if err := os.MkdirAll(filepath.Join(cfg.Storage.RootDirectory, ".berth"), 0o700); err != nil {
			return err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := Reach(ctx, cfg, parts, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Blobs == nil {
		return errors.New("the blobstore can't be reached from here: services.blobstore.address is needed")
	}
	return f(transfer.Store{Blobs: s.Blobs, Catalog: s.Catalog})
}

// writeFile writes a file as a whole or not at all.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name+".part"))
	}
	return os.Rename(name+".part", name)
}

func transferProgress(out io.Writer) func(transfer.Progress) {
	said := time.Now()
	return func(p transfer.Progress) {
		if time.Since(said) > progressEvery {
			said = time.Now()
			fmt.Fprintf(out, "%d manifests, %d blobs (%d bytes); at %s\n", p.Manifests, p.Blobs, p.Bytes, p.Repo)
		}
	}
}
