package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAlarming(t *testing.T) {
	for _, bad := range []string{
		"panic: runtime error: index out of range\n\ngoroutine 7 [running]:\nmain.main()\n",
		"2026/11/23 http: panic serving 127.0.0.1:1: boom\n",
		"==================\nWARNING: DATA RACE\nWrite at 0x1 by goroutine 8:\n",
		"fatal error: concurrent map writes\n",
		`{"level":"warn","message":"refused a call","method":"/x/Y","certificate":"metadata"}` + "\n",
	} {
		log := `{"level":"INFO","msg":"starting berth"}` + "\n" + bad
		got := alarming(log)
		if got == "" {
			t.Errorf("nothing is seen in\n%s", log)
		}
		if strings.Contains(got, "starting berth") {
			t.Errorf("the healthy line before the fault is shown:\n%s", got)
		}
	}
	const healthy = `{"level":"WARN","msg":"client sent too much","repo":"panic/mode"}` + "\n"
	if got := alarming(healthy); got != "" {
		t.Errorf("a healthy log is taken for a fault: %s", got)
	}
}

func TestStopTellsOfABadEnd(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"ended before it was told to", "exit 3", "ended by itself: exit status 3"},
		{"ended without an error before it was told to", "exit 0", "ended by itself: exit status 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Process{Name: "sh", Path: "/bin/sh", Args: []string{"-c", tt.script}}
			p.start(t)
			<-p.exited
			if err := p.Stop(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Stop = %v, want %q", err, tt.want)
			}
		})
	}
	t.Run("ended with an error when it was told to", func(t *testing.T) {
		p := &Process{Name: "sh", Path: "/bin/sh", Args: []string{"-c", `trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done`}}
		p.start(t)
		for !strings.Contains(p.Log(), "ready") {
			select {
			case <-p.exited:
				t.Fatal("ended early")
			case <-time.After(readyPause):
			}
		}
		if err := p.Stop(); err == nil || !strings.Contains(err.Error(), "did not end cleanly: exit status 4") {
			t.Errorf("Stop = %v", err)
		}
	})
}

func TestRoundRobinAlternatesWithinAConnection(t *testing.T) {
	var backends []string
	for i := range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%d as %s", i, r.Host)
		}))
		t.Cleanup(s.Close)
		backends = append(backends, strings.TrimPrefix(s.URL, "http://"))
	}
	front := roundRobin(t, backends...)
	var got []string
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for range 4 {
		resp, err := client.Get("http://" + front + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(body))
	}
	if got[0] == got[1] || got[0] != got[2] || got[1] != got[3] {
		t.Errorf("requests of one connection went to %q, want them in turn", got)
	}
	if !strings.HasSuffix(got[0], " as "+front) {
		t.Errorf("the backend is addressed %q, want the client's name for us, %s", got[0], front)
	}
}
