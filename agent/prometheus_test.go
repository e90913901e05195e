package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// scraper is a real Prometheus that scrapes an agent once a second and has the
// example alerts, whose patience is cut to a second.
type scraper struct{ url string }

// startPrometheus starts one until the test ends; it returns nil where there is none.
func startPrometheus(t *testing.T, r *running) *scraper {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Log("SKIP: no Prometheus: install prometheus")
		return nil
	}
	dir := t.TempDir()
	alerts, err := os.ReadFile("../packaging/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(dir, "alerts.yaml")
	rewrite(t, rules, regexp.MustCompile(`(?m)^( +)for: \S+$`).ReplaceAllString(string(alerts), "${1}for: 1s"))
	config := filepath.Join(dir, "prometheus.yaml")
	rewrite(t, config, fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%s]\n"+
		"scrape_configs: [{job_name: beamprof, static_configs: [{targets: ['%s']}]}]", rules, r.address))
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	cmd := exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &synchronized{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	p := &scraper{"http://" + address}
	eventually(t, "a scrape by Prometheus", func() bool {
		series, err := p.query(`up{job="beamprof"} == 1`)
		return err == nil && len(series) == 1
	})
	return p
}

// query returns the labels of the series that an expression gives now.
func (p *scraper) query(expression string) ([]map[string]string, error) {
	answer, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var result struct {
		Status, Error string
		Data          struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		return nil, err
	}
	if result.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expression, result.Error)
	}
	var series []map[string]string
	for _, one := range result.Data.Result {
		series = append(series, one.Metric)
	}
	return series, nil
}

// firing tells for which nodes an alert fires.
func (p *scraper) firing(t *testing.T, alert string) (nodes []string) {
	t.Helper()
	series, err := p.query(fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing"}`, alert))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range series {
		nodes = append(nodes, s["node"])
	}
	return nodes
}

// promtool runs it with input; it is in the package of the server.
func promtool(t *testing.T, input string, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("SKIP: no promtool: install prometheus")
		return
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// dashboard is what of Grafana's JSON the tests look at.
type dashboard struct {
	UID        string
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
			Datasource any
		}
	}
	Panels []struct {
		ID         int
		Title      string
		GridPos    struct{ X, Y, W, H int }
		Datasource struct{ UID string }
		Targets    []struct {
			RefID, Expr string
			Datasource  struct{ UID string }
		}
	}
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile("../packaging/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// anyNode is an expression of the dashboard, for all nodes.
func anyNode(expression string) string { return strings.ReplaceAll(expression, "$node", ".*") }

func TestPromtoolOnAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", "../packaging/alerts.yaml")
}

// TestAlertsFire: each alert of the example fires for what it is made for, and
// not for what is nearly that.
func TestAlertsFire(t *testing.T) {
	alerts, err := filepath.Abs("../packaging/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yaml")
	rewrite(t, file, "rule_files: ["+alerts+"]", alertTests)
	promtool(t, "", "test", "rules", file)
}

const alertTests = `evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'beamprof_verdict{node="a", cause="client_connection_storm", verdict="likely"}', values: '0 0 1x20'}
      - {series: 'beamprof_verdict{node="b", cause="client_connection_storm", verdict="possible"}', values: '1x20'}
      - {series: 'beamprof_verdict{node="b", cause="inconsistent_cluster_state", verdict="likely"}', values: '1x20'}
      - {series: 'beamprof_sink_queue_oldest_seconds{sink="x", type="http"}', values: '0+60x40'}
      - {series: 'beamprof_sink_dropped_total{sink="x", type="http", reason="refused"}', values: '0x5 1x20'}
      - {series: 'beamprof_targets_refused{instance="h", reason="unsupported"}', values: '1x40'}
      - {series: 'beamprof_targets_refused{instance="h", reason="starting"}', values: '1x40'}
      - {series: 'beamprof_cpu_seconds_total{node="a", workload="ae_exchange"}', values: '0+40x40'}
      - {series: 'beamprof_cpu_seconds_total{node="a", workload="client_churn"}', values: '0+20x40'}
      - {series: 'beamprof_cpu_seconds_total{node="a", workload="vm"}', values: '0+60x40'}
      - {series: 'beamprof_cpu_seconds_total{node="b", workload="ae_exchange"}', values: '0+1x40'}
      - {series: 'beamprof_samples_total{node="a"}', values: '0+1000x40'}
      - {series: 'beamprof_samples_lost_total{node="a"}', values: '0+20x40'}
      - {series: 'beamprof_samples_total{node="b"}', values: '0+1000x40'}
      - {series: 'beamprof_samples_lost_total{node="b"}', values: '0+5x40'}
    alert_rule_test:
      - {eval_time: 4m, alertname: VerneMQConnectionStorm, exp_alerts: []}
      - eval_time: 6m
        alertname: VerneMQConnectionStorm
        exp_alerts:
          - exp_labels: {severity: warning, node: a}
            exp_annotations: {summary: "a is busy with clients that connect again and again", description: "See which listener: rate(beamprof_connections_opened_total[5m]); and who: beamprof record on the host."}
      - eval_time: 12m
        alertname: VerneMQInconsistentState
        exp_alerts:
          - exp_labels: {severity: warning, node: b}
            exp_annotations: {summary: "b exchanges cluster metadata that does not converge", description: "Look at rate(beamprof_log_signals_total[10m]) and at the workload ae_exchange in the profiles."}
      - eval_time: 30m
        alertname: VerneMQAntiEntropyBusy
        exp_alerts:
          - exp_labels: {severity: info, node: a}
            exp_annotations: {summary: "more than half of the work of a is anti-entropy"}
      - eval_time: 30m
        alertname: BeamprofSamplesLost
        exp_alerts:
          - exp_labels: {severity: info, node: a}
            exp_annotations: {summary: "more than 1 % of the samples of a are lost"}
      - {eval_time: 14m, alertname: BeamprofSinkFails, exp_alerts: []}
      - eval_time: 17m
        alertname: BeamprofSinkFails
        exp_alerts:
          - exp_labels: {severity: warning, sink: x, type: http}
            exp_annotations: {summary: "the sink x takes no profiles", description: "Why: rate(beamprof_sink_failures_total[10m]); they wait on disk until the queue's max_bytes and max_age."}
      - {eval_time: 5m, alertname: BeamprofProfilesDropped, exp_alerts: []}
      - eval_time: 8m
        alertname: BeamprofProfilesDropped
        exp_alerts:
          - exp_labels: {severity: warning, sink: x, type: http, reason: refused}
            exp_annotations: {summary: "profiles for x are given up: refused"}
      - eval_time: 20m
        alertname: BeamprofTargetsRefused
        exp_alerts:
          - exp_labels: {severity: info, instance: h, reason: unsupported}
            exp_annotations: {summary: "1 VMs on h are not profiled: unsupported"}
`
