package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// reload gives process a configuration that follows its file, and returns the unit
// that makes it do so. SIGHUP opens logs again and reads the file at once.
func (p Program) reload(process *daemon.Process, cfg *config.Config, logs *daemon.Log, file string, accept []string) daemon.Unit {
	log := process.Log
	load := func() (*config.Config, []config.Warning, error) { return p.load(file, accept) }
	if file == "" {
		load = nil
	}
	live := config.NewLive(cfg, load, log, process.Metrics)
	live.Serve(p.Serve.Program, cfg.Services)
	live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { _ = logs.SetLevel(next.Log.Level) }, nil // the file was checked
	}, "log.level")
	process.Live = live
	process.Rotated = new(daemon.Rotation)
	process.Rotated.Add(logs.Reopen)

	ctx, stop := context.WithCancel(context.Background())
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // now: one that comes during the start must not kill
	var watching sync.WaitGroup
	return daemon.Unit{
		Name: "configuration",
		Run: func() error {
			watching.Go(func() { live.Watch(ctx, file) })
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-hangup:
					if err := process.Rotated.Reopen(); err != nil {
						log.Error("a log can't be opened again; lines go where they went", "error", err.Error())
					}
					_ = live.Reload(ctx) // it has logged the error
				}
			}
		},
		Stop: func(context.Context) error {
			signal.Stop(hangup)
			stop()
			watching.Wait()
			return nil
		},
		Abandon: func() error {
			signal.Stop(hangup)
			stop()
			return nil
		},
	}
}
