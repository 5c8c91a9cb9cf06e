package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// Unit is a part of a process with a life of its own. Each of its functions may
// be nil.
type Unit struct {
	Name string
	// Start brings the unit to work and returns, or says why it can't.
	Start func(ctx context.Context) error
	// Run works until Stop is called and then returns nil. Returning earlier
	// ends the process.
	Run func() error
	// Stop ends the unit. When ctx ends it gives up what is still in work.
	Stop func(ctx context.Context) error
	// Abandon gives up what a unit holds that was never started. nil means Stop
	// does that, too.
	Abandon func() error
}

// Abandon gives up units that were built and never run, in reverse order.
func Abandon(units []Unit) error {
	var errs []error
	for _, u := range slices.Backward(units) {
		switch {
		case u.Abandon != nil:
			errs = append(errs, u.Abandon())
		case u.Stop != nil:
			errs = append(errs, u.Stop(context.Background()))
		}
	}
	return errors.Join(errs...)
}

// Fatal returns a unit that ends the process when doom is called with the
// reason. doom may be called at any time and many times.
func Fatal(name string) (u Unit, doom func(error)) {
	reason := make(chan error, 1)
	stopped := make(chan struct{})
	return Unit{
			Name: name,
			Run: func() error {
				select {
				case err := <-reason:
					return err
				case <-stopped:
					return nil
				}
			},
			Stop:    func(context.Context) error { close(stopped); return nil },
			Abandon: func() error { return nil },
		}, func(err error) {
			select {
			case reason <- err:
			default: // the process is ending already
			}
		}
}

// Closer returns a unit that only has to be closed.
func Closer(name string, close func() error) Unit {
	return Unit{Name: name, Stop: func(context.Context) error { return close() }}
}

// Readiness is what a process tells a load balancer: it is up once all units
// have started, and goes down before the first of them stops.
type Readiness struct{ up atomic.Bool }

// Ready reports whether the process wants new requests. One that has no
// Readiness always does.
func (r *Readiness) Ready() bool { return r == nil || r.up.Load() }

// Options of [Run].
type Options struct {
	// Ready is told when the process is up and when it begins to stop.
	Ready *Readiness
	// Delay is the time between the end of readiness and the first unit's stop.
	// A load balancer that asks for readiness now and then has stopped sending
	// new requests by its end, so that none meets a closed port. It is left out
	// when a unit failed.
	Delay time.Duration
	// Drain is how long units may take to stop, all together.
	Drain time.Duration
}

// DefaultDrain is the time that a push in progress gets to finish when its
// process is told to stop. Kubernetes kills after 30 s by default.
const DefaultDrain = 25 * time.Second

// Run starts units in order and runs them until ctx ends, the process gets
// SIGTERM or SIGINT, or one of them fails. Then it stops those that had
// started, in reverse order, and returns the first failure, if any. A second
// signal ends the process at once. The service manager, if there is one, is told
// when the process is up and when it begins to stop.
func Run(ctx context.Context, log *slog.Logger, o Options, units ...Unit) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	return run(ctx, cancel, log, o, units)
}

// run is Run with signals taken care of: after release one kills.
func run(ctx context.Context, release func(), log *slog.Logger, o Options, units []Unit) error {
	if o.Ready == nil {
		o.Ready = new(Readiness)
	}

	failed := make(chan error, len(units))
	started := 0
	var err error
	for _, u := range units {
		if u.Start != nil {
			if err = u.Start(ctx); err != nil {
				err = fmt.Errorf("starting %s: %w", u.Name, err)
				break
			}
		}
		started++
		if u.Run != nil {
			go func() {
				if err := u.Run(); err != nil {
					failed <- fmt.Errorf("%s: %w", u.Name, err)
					return
				}
				failed <- nil
			}()
		}
	}
	if err == nil {
		o.Ready.up.Store(true)
		tellManager(log, "READY=1")
		select {
		case <-ctx.Done():
			log.Info("stopping", "reason", "signal", "delay", o.Delay.String())
		case err = <-failed:
			err = failure(log, err)
		}
	}
	o.Ready.up.Store(false)
	release()
	tellManager(log, "STOPPING=1")
	if err == nil && o.Delay > 0 {
		select {
		case <-time.After(o.Delay):
		case err = <-failed:
			err = failure(log, err)
		}
	}
	return errors.Join(err, stop(log, o.Drain, units[:started]))
}

// failure is the error of a unit that returned err without being asked to.
func failure(log *slog.Logger, err error) error {
	if err == nil {
		err = errors.New("a unit ended by itself")
	}
	log.Error("stopping", "reason", err.Error())
	return err
}

func stop(log *slog.Logger, drain time.Duration, units []Unit) error {
	if drain <= 0 {
		drain = DefaultDrain
	}
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var errs []error
	for _, u := range slices.Backward(units) {
		if u.Stop == nil {
			continue
		}
		if err := u.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", u.Name, err))
			continue
		}
		log.Debug("stopped", "unit", u.Name)
	}
	return errors.Join(errs...)
}

// HTTP returns a unit that serves srv on l, with TLS if srv has a TLSConfig.
func HTTP(name string, l net.Listener, srv *http.Server) Unit {
	serve := srv.Serve
	if srv.TLSConfig != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	return Unit{
		Name: name,
		Run: func() error {
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		Stop: func(ctx context.Context) error {
			if err := srv.Shutdown(ctx); err != nil {
				// Clients go on where they were.
				return errors.Join(fmt.Errorf("cutting off requests that were still in progress: %w", err), srv.Close())
			}
			return nil
		},
	}
}

// Main runs f as the body of a program: its error goes to stderr, and the exit
// code is 0, 1 for an error, or what an [Exit] says.
func Main(f func(ctx context.Context, args []string) error) {
	err := f(context.Background(), os.Args[1:])
	if err == nil {
		return
	}
	var exit Exit
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, exit.Err)
		}
		os.Exit(exit.Code)
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

// Exit is an error that asks for an exit code of its own.
type Exit struct {
	Code int
	Err  error
}

func (e Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e Exit) Unwrap() error { return e.Err }
