package attribution

import (
	"testing"

	"github.com/beamprof/beamprof/collector"
)

// TestVerneMQ applies the rules to samples of each process of a VerneMQ node,
// with each of its requests, alone: nothing else is there to split by.
func TestVerneMQ(t *testing.T) {
	w := newWho()
	const (
		store, db, edist = "vmq_swc_store_metaN", "vmq_swc_db_metaN", "vmq_swc_edist_metaN"
		fsm              = "vmq_swc_exchange_fsm:init/1"
		apply            = "vmq_swc_edist_srv:'-rpc_apply/5-fun-0-'/5 < vmq_swc_edist_metaN"
		missing          = "vmq_swc_store:'-handle_call/3-fun-4-'/4 < vmq_swc_store_metaN"
		session, queue   = "vmq_ranch:init/4", "vmq_queue:init/1"
		action           = "vmq_reg_sync_action:'-init/1-fun-0-'/4"
		loop             = "gen_server:loop/7"
	)
	listening := w.sample("", "", "#accept", "#erts_port_task_execute")
	listening.Port = &collector.Port{ID: "#Port<0.7>", Name: "tcp_inet", Driver: "tcp_inet", Owner: w.process("ranch_listener_sup:init/1")}
	socket := w.sample("", "", "#recv")
	socket.State, socket.Port = collector.StatePort, &collector.Port{ID: "#Port<0.9>", Name: "tcp_inet", Driver: "tcp_inet", Owner: w.process("ranch_conns_sup:init/7")}
	state := func(s *collector.Sample, state collector.State) *collector.Sample { s.State = state; return s }
	thread := func(s *collector.Sample, kind collector.ThreadKind) *collector.Sample {
		s.Thread = &collector.Thread{TID: 5, Kind: kind}
		return s
	}
	for _, c := range []struct {
		sample          *collector.Sample
		workload, basis string
	}{
		// Anti-entropy.
		{w.sample(fsm, "internal lock", "vmq_swc_exchange_fsm:prepare/3"), "ae_exchange", "process"},
		{w.sample("vmq_swc_exchange_fsm:'-as_event/1-fun-0-'/2", "", "gen_statem:send/2"), "ae_exchange", "process"},
		{w.sample("gen_statem:send/2", "", "gen_statem:send/2"), "ae_exchange", "process"},
		{w.sample("proc_lib:init_p/5", "internal repair", "vmq_swc_exchange_fsm:local_sync_repair/3"), "ae_exchange", "stack"},
		{w.sample("vmq_swc_exchange_sup_metaN", "call start_child", "supervisor:handle_call/3"), "ae_exchange", "process"},
		{w.sample(store, "call lock", "vmq_swc_store:handle_call/3"), "ae_exchange", "request"},
		{w.sample(store, "call get_node_clock", "vmq_swc_store:handle_call/3"), "ae_exchange", "request"},
		{w.sample(store, "call get_watermark", "vmq_swc_store:handle_call/3"), "ae_exchange", "request"},
		{w.sample(store, "call sync_missing", "erlang:spawn_link/1"), "ae_exchange", "request"},
		{w.sample(store, "call sync_repair", "vmq_swc_dkm:prune/3", "vmq_swc_store:incremental_gc/1"), "ae_exchange", "request"},
		{w.sample(store, "info sync", "vmq_swc_store:handle_info/2"), "ae_exchange", "request"},
		{w.sample(store, "info sync_with", "vmq_swc_store:handle_info/2"), "ae_exchange", "request"},
		{w.sample(store, "", "vmq_swc_store:fill_strip_save_batch/3"), "ae_exchange", "stack"},
		{w.sample(store, "call sync_missing_init", "erlang:spawn_link/1"), "ae_exchange", "request"},
		{w.sample(store, "call sync_repair_init", "vmq_swc_store:sync_repair_db_ops/6"), "ae_exchange", "request"},
		{w.sample("vmq_swc_store:'-start_async_db_write/5-fun-0-'/4 < vmq_swc_store_metaN", ""), "ae_exchange", "process"},
		{w.sample("vmq_swc_db_leveldb:'-handle_call/3-fun-1-'/4 < vmq_swc_db_metaN", "", "vmq_swc_store:'-handle_call/3-fun-5-'/3"), "ae_exchange", "stack"},
		{w.sample(missing, "", "lists:flatmap_1/2", missing), "ae_exchange", "process"},
		{w.sample("gen:reply/2 < vmq_swc_store_metaN", "", "gen:reply/2"), "ae_exchange", "parent"},
		{w.sample(edist, "call apply", "vmq_swc_edist_srv:handle_call/3"), "ae_exchange", "request"},
		{w.sample(apply, "", "vmq_swc_store:rpc_node_clock/1"), "ae_exchange", "stack"},
		{w.sample(apply, "", "gen:do_call/4", "vmq_swc_store:rpc_watermark/1"), "ae_exchange", "stack"},
		{w.sample(apply, "", "gen:do_call/4", "vmq_swc_store:rpc_sync_missing/3"), "ae_exchange", "stack"},
		{w.sample("plumtree_metadata_exchange_fsm:init/1", "", "gen_fsm:loop/8"), "ae_exchange", "process"},
		{w.sample("plumtree_metadata_hashtree", "call compare"), "ae_exchange", "process"},
		{w.asked(w.sample("plumtree_metadata_manager", "call merge"), "process of another node"), "ae_exchange", "caller"},
		{w.sample("plumtree_broadcast", "info exchange_tick"), "ae_exchange", "request"},

		// Local writes, and what arrives from a peer.
		{w.asked(w.sample(store, "call batch", "vmq_swc_store:process_write_op/3"), "vmq_swc_store_batcher_metaN"), "client_churn", "caller"},
		{w.sample(store, "call batch", "vmq_swc_store:process_write_op/3"), "client_churn", "request"},
		{w.sample(store, "cast swc_broadcast", "vmq_swc_store:process_replicate_op/2"), "replication", "request"},
		{w.sample(store, "", "vmq_swc_store:process_replicate_op/2"), "replication", "stack"},
		{w.sample(store, "info async_db_write_done", "vmq_swc_store:process_replicate_op/2"), "replication", "stack"},
		{w.sample(store, "info async_db_write_done", "vmq_swc_store:process_write_op/3"), "client_churn", "stack"},
		{w.asked(w.sample("plumtree_metadata_manager", "call merge"), "plumtree_broadcast"), "replication", "caller"},
		{w.sample(edist, "cast apply", "vmq_swc_edist_srv:handle_cast/2"), "replication", "request"},
		{w.sample(apply, "", "gen_server:cast/2", "vmq_swc_store:rpc_broadcast/3"), "replication", "stack"},
		{w.sample("gen_server:do_send/2 < vmq_swc_edist_metaN", "", "gen_server:do_send/2"), "replication", "stack"},
		{w.sample("plumtree_broadcast", "cast broadcast"), "replication", "process"},
		{w.sample("vmq_swc_store_batcher_metaN", "", "vmq_swc_store_batcher:loop/1"), "client_churn", "process"},

		// The database: decided by who called it.
		{w.asked(w.sample(db, "call read", "eleveldb:get/3"), missing), "ae_exchange", "caller"},
		{w.asked(w.sample(db, "call write"), store+" | call sync_repair"), "ae_exchange", "caller"},
		{w.asked(w.sample(db, "call write"), store+" | cast swc_broadcast"), "replication", "caller"},
		{w.asked(w.sample(db, "call write"), store+" | info do_gc"), "housekeeping", "caller"},
		{w.asked(w.sample(db, "call write"), store+" | call batch", "vmq_swc_store_batcher_metaN"), "client_churn", "caller"},
		{w.asked(w.sample(db, "call read"), action+" || vmq_swc_store:read/2 vmq_reg:register_subscriber_/6"), "client_churn", "caller"},
		{w.asked(w.sample(db, "call read"), session+" || vmq_swc_store:read/2 vmq_reg:subscribe/3 vmq_mqtt_fsm:connected/2"), "client_churn", "caller"},
		{w.asked(w.sample(db, "call read"), "vmq_reg_mgr"), "client_churn", "caller"},
		{w.asked(w.sample(db, "call read"), "vmq_retain_srv"), "message_routing", "caller"},
		{w.asked(w.sample("vmq_swc_dkm_metaN", "call read", "eleveldb:get/3"), missing), "ae_exchange", "caller"},
		{w.asked(w.sample("leveled_bookie:init/1", "call get"), missing), "ae_exchange", "caller"},
		{w.sample(db, "", loop), "housekeeping", "process"},

		// Housekeeping.
		{w.sample(store, "info do_gc", "vmq_swc_store:incremental_gc/1"), "housekeeping", "request"},
		{w.sample("vmq_swc_group_membership_metaN", ""), "housekeeping", "process"},
		{w.sample("vmq_swc_peer_service_gossip", "info do_gossip"), "housekeeping", "process"},
		{w.sample("vmq_swc_metrics", ""), "housekeeping", "process"},
		{w.sample("vmq_metrics", ""), "housekeeping", "process"},
		{w.sample("vmq_systree", ""), "housekeeping", "process"},

		// Clients.
		{w.sample("ranch_acceptor:init/4", "", "prim_inet:accept0/3"), "client_churn", "process"},
		{w.sample("ranch_conns_sup:init/7", ""), "client_churn", "process"},
		{listening, "client_churn", "stack"},
		{socket, "client_churn", "process"},
		{w.sample(session, "", "vmq_mqtt_pre_init:data_in/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:check_client_id/2", "vmq_mqtt_fsm:init/3", "vmq_mqtt_pre_init:data_in/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:auth_on_register/3"), "client_churn", "stack"},
		{w.sample(session, "", "gen_server:call/3", "vmq_reg_sync:sync/3", "vmq_reg:register_subscriber/5"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:terminate/2", "vmq_mqtt_fsm:connected/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_reg:subscribe/3", "vmq_mqtt_fsm:connected/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt5_fsm:init/3"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:auth_on_subscribe/4", "vmq_mqtt_fsm:connected/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt5_fsm:terminate_by_client/3", "vmq_mqtt5_fsm:connected/2"), "client_churn", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:connected/2"), "message_routing", "stack"},
		{w.sample(session, "", "vmq_mqtt_fsm:check_in_flight/1", "vmq_mqtt_fsm:connected/2"), "message_routing", "stack"},
		{w.sample(session, "", "vmq_reg_trie:fold/4", "vmq_reg:publish/4", "vmq_mqtt5_fsm:connected/2"), "message_routing", "stack"},
		{w.sample(session, "", "vmq_ranch:loop_/1"), "client_churn", "process"},
		{w.sample("cowboy_clear:connection_process/4", "", "vmq_mqtt_fsm:connected/2", "vmq_websocket:websocket_handle/2"), "message_routing", "stack"},
		{w.sample("cowboy_clear:connection_process/4", "", "vmq_mqtt_pre_init:data_in/2", "vmq_websocket:websocket_handle/2"), "client_churn", "stack"},
		{w.sample("supervisor:ranch_acceptors_sup/1", ""), "client_churn", "process"},
		{w.sample("tls_connection:init/1", "", "tls_handshake:get_tls_handshakes/4"), "client_churn", "stack"},
		{w.sample(queue, "call add_session", "vmq_queue:online/3"), "client_churn", "process"},
		{w.sample(queue, "call cleanup", "vmq_queue:wait_for_offline/3"), "client_churn", "stack"},
		{w.sample(queue, "info DOWN", "vmq_reg:delete_subscriptions/1"), "client_churn", "request"},
		{w.sample(queue, "cast enqueue", "vmq_queue:online/2"), "message_routing", "request"},
		{w.sample(queue, "cast change_state", "vmq_queue:online/2"), "message_routing", "request"},
		{w.sample(queue, "cast notify_recv", "vmq_queue:online/2"), "message_routing", "request"},
		{w.asked(w.sample(queue, "call enqueue_many"), "vmq_cluster_com:'-process/2-fun-0-'/4"), "client_churn", "caller"},
		{w.asked(w.sample(queue, "call enqueue_many"), session+" || vmq_shared_subscriptions:publish/4 vmq_mqtt_fsm:connected/2"), "message_routing", "caller"},
		{w.sample("vmq_queue_sup_N", ""), "client_churn", "process"},
		{w.sample("vmq_reg_sync", "call sync"), "client_churn", "process"},
		{w.sample("vmq_reg_sync_action:init/1", ""), "client_churn", "process"},
		{w.sample(action, "", "vmq_reg:block_until/4"), "client_churn", "process"},
		{w.sample("vmq_reg_mgr", "info updated"), "client_churn", "process"},
		{w.sample("vmq_reg_trie", "info updated"), "client_churn", "process"},
		{w.sample("erpc:execute_call/4", "", "vmq_reg:get_queue_pid/1"), "client_churn", "stack"},
		{w.sample("rex", "", "vmq_reg:get_queue_pid/1"), "client_churn", "stack"},

		// Messages.
		{w.sample("vmq_cluster_node:init/1", "", "gen_tcp:send/2"), "message_routing", "process"},
		{w.sample("vmq_cluster_com:init/3", "", "vmq_reg:route_remote_msg/4"), "message_routing", "stack"},
		{w.sample("vmq_cluster_com:'-process/2-fun-0-'/4", "", "vmq_queue:enqueue_many/2"), "client_churn", "process"},
		{w.sample("vmq_cluster_com:'-process/2-fun-1-'/5", "", "vmq_queue:enqueue_many/3"), "message_routing", "process"},
		{w.sample("vmq_generic_msg_store:init/1", ""), "message_routing", "process"},
		{w.asked(w.sample("vmq_generic_msg_store:init/1", "call delete"), queue+" | call cleanup"), "client_churn", "caller"},
		{w.sample("vmq_reg:'-direct_plugin_exports/2-fun-3-'/3", "", "vmq_mqtt_fsm_util:plugin_receive_loop/2"), "message_routing", "process"},
		{w.sample("vmq_fanout_shard_worker_N", "cast async_fold"), "message_routing", "process"},
		{w.asked(w.sample("vmq_diversity_script_state:init/1", "call call_function"), session+" || gen_server:call/3 vmq_mqtt_fsm:auth_on_register/2 vmq_mqtt_fsm:init/3"), "client_churn", "caller"},
		{w.asked(w.sample("epgsql_sock:init/1", "call command"), "vmq_diversity_script_state:init/1", session+" || vmq_mqtt_fsm:connected/2"), "message_routing", "caller"},

		// The VM.
		{state(w.sample("", ""), collector.StateBusyWait), "vm", "stack"},
		{state(w.sample("", ""), collector.StateCheckIO), "vm", "stack"},
		{state(w.sample(db, "", loop), collector.StateScheduling), "vm", "stack"},
		{thread(state(w.sample("", ""), collector.StateAux), collector.ThreadAux), "vm", "process"},
		{w.sample("code_server", ""), "vm", "process"},

		// Not known.
		{w.sample("somebody:init/1", "call question"), "unattributed", "none"},
		{w.native("Eleveldb"), "unattributed", "none"},
		{w.sample("lager_event", "cast log"), "housekeeping", "process"},
	} {
		parts := attribute(builtin(t, "vernemq"), c.sample)[c.sample]
		if len(parts) != 1 || parts[0].Workload != c.workload || parts[0].Basis != c.basis {
			name := "no process"
			if c.sample.Process != nil {
				name = c.sample.Process.Kind
			}
			t.Errorf("%s %s %s, asked by %q: got %+v, want %s by %s",
				name, c.sample.RequestType, c.sample.Request, c.sample.OnBehalfOf, parts, c.workload, c.basis)
		}
	}
}

// TestVerneMQSharedWork: thread pools and log writers are split by whose work
// was sampled in the same second.
func TestVerneMQSharedWork(t *testing.T) {
	w := newWho()
	const db = "vmq_swc_db_metaN"
	var samples, pool, logs []*collector.Sample
	for range 6 {
		samples = append(samples, w.asked(w.sample(db, "call read", "eleveldb:get/3"), "vmq_swc_store:'-handle_call/3-fun-4-'/4"))
		pool = append(pool, w.native("Eleveldb", "#eleveldb::GetTask"))
	}
	for range 2 {
		samples = append(samples, w.asked(w.sample(db, "call read", "eleveldb:get/3"), "vmq_reg_sync_action:'-init/1-fun-0-'/4"))
		samples = append(samples, w.sample("vmq_queue:init/1", "call cleanup", "lager:log/4"))
		pool = append(pool, w.native("1_scheduler")) // one of the pool's threads is called so
		logs = append(logs, w.sample("lager_event", "cast log", "prim_file:write/2"))
	}
	parts := attribute(builtin(t, "vernemq"), append(append(samples, pool...), logs...)...)
	sum := func(of []*collector.Sample) map[string]int64 {
		times := map[string]int64{}
		for _, s := range of {
			for _, p := range parts[s] {
				if p.Basis != BasisApportioned {
					t.Errorf("basis %s", p.Basis)
				}
				times[p.Workload] += p.Nanoseconds
			}
		}
		return times
	}
	if got := sum(pool); max(got["ae_exchange"]-6*period, 6*period-got["ae_exchange"]) > 8 || got["ae_exchange"]+got["client_churn"] != 8*period {
		t.Errorf("the pool's 8 samples are split into %v", got)
	}
	if got := sum(logs); got["client_churn"] != 2*period {
		t.Errorf("the log's 2 samples are split into %v", got)
	}
}
