-- One load balancer with all below it, as the first release (revision 0001) left it: a change was accepted
-- (generation 3) that no worker has seen. Frozen: it is not made from today's declarations.
INSERT INTO deployment (id, created, single)
VALUES ('00000000-0000-4000-8000-00000000000d', 1760000000.0, 1);
INSERT INTO listener_statistics (loadbalancer_id, listener_id, amphora_id, bytes_in, bytes_out, active_connections, total_connections, request_errors)
VALUES ('11111111-0000-4000-8000-000000000001', '33333333-0000-4000-8000-000000000001', '66666666-0000-4000-8000-000000000001', 5000000000, 7, 1, 3, 0);
INSERT INTO load_balancer (project_id, created_at, name, admin_state_up, tags, provisioning_status, operating_status, changed_generation, description, id, vip_address, vip_port_id, vip_subnet_id, vip_network_id, provider, topology, vip_vnic_type, vip_port_ours, generation, observed_generation, attempted_generation, vip_sg_ids, additional_vips)
VALUES ('p', '2026-10-09 08:53:20.123456', 'web', 1, '["prod", "Grün"]', 'PENDING_UPDATE', 'ONLINE', 2, '', '11111111-0000-4000-8000-000000000001', '198.18.1.10', '99999999-0000-4000-8000-000000000001', '99999999-0000-4000-8000-000000000002', '99999999-0000-4000-8000-000000000003', 'amphora', 'SINGLE', 'normal', 1, 3, 2, 2, '[]', '[]');
INSERT INTO operation (loadbalancer_id, id, what, generation, epoch, state, started, ended, host)
VALUES ('11111111-0000-4000-8000-000000000001', '77777777-0000-4000-8000-000000000001', 'create', 2, 4, 'done', 1760000000.5, 1760000009.125, 'controller');
INSERT INTO amphora (created_at, loadbalancer_id, id, compute_id, lb_network_ip, vrrp_ip, ha_ip, role, status, vrrp_interface, vrrp_id, vrrp_priority, applied_generation, applied_hash, fenced, cert_busy, cert_expiration, boot_started_at)
VALUES ('2026-10-09 08:53:20.123456', '11111111-0000-4000-8000-000000000001', '66666666-0000-4000-8000-000000000001', '88888888-0000-4000-8000-000000000001', '198.18.0.5', '198.18.1.11', '198.18.1.10', 'STANDALONE', 'ALLOCATED', 'eth1', 1, 90, 2, '0000000000000000000000000000000000000000000000000000000000000000', 0, 0, '2026-12-01 00:00:00.000000', 1760000000.25);
INSERT INTO lease (loadbalancer_id, owner, epoch, until)
VALUES ('11111111-0000-4000-8000-000000000001', '', 4, 0.0);
INSERT INTO pool (project_id, created_at, name, admin_state_up, tags, provisioning_status, operating_status, changed_generation, description, loadbalancer_id, id, protocol, lb_algorithm, session_persistence)
VALUES ('p', '2026-10-09 08:53:20.123456', 'pool', 1, '[]', 'ACTIVE', 'ONLINE', 2, '', '11111111-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000001', 'HTTP', 'ROUND_ROBIN', '{"type": "SOURCE_IP"}');
INSERT INTO step (id, operation_id, what, seam, subject, state, started, ended)
VALUES ('77777777-0000-4000-8000-000000000002', '77777777-0000-4000-8000-000000000001', 'boot-server', 'boot', '66666666-0000-4000-8000-000000000001', 'done', 1760000001.5, 1760000003.5);
INSERT INTO amphora_health (amphora_id, last_update, boot_count, seq, generation, bundle_hash, haproxy_up)
VALUES ('66666666-0000-4000-8000-000000000001', 1760000100.75, 1, 9, 2, '0000000000000000000000000000000000000000000000000000000000000000', 1);
INSERT INTO health_monitor (project_id, created_at, name, admin_state_up, tags, provisioning_status, operating_status, changed_generation, loadbalancer_id, id, pool_id, type, delay, timeout, max_retries, max_retries_down, http_method, url_path, expected_codes, http_version)
VALUES ('p', '2026-10-09 08:53:20.123456', 'check', 1, '[]', 'ACTIVE', 'ONLINE', 2, '11111111-0000-4000-8000-000000000001', '55555555-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000001', 'HTTP', 5, 3, 2, 3, 'GET', '/', '200', 1.1);
INSERT INTO listener (project_id, created_at, name, admin_state_up, tags, provisioning_status, operating_status, changed_generation, description, loadbalancer_id, id, protocol, protocol_port, connection_limit, default_pool_id, insert_headers, timeout_client_data, timeout_member_connect, timeout_member_data, timeout_tcp_inspect)
VALUES ('p', '2026-10-09 08:53:20.123456', 'http', 1, '[]', 'ACTIVE', 'ONLINE', 2, '', '11111111-0000-4000-8000-000000000001', '33333333-0000-4000-8000-000000000001', 'HTTP', 80, -1, '22222222-0000-4000-8000-000000000001', '{"X-Forwarded-For": "true"}', 50000, 5000, 50000, 0);
INSERT INTO member (project_id, created_at, name, admin_state_up, tags, provisioning_status, operating_status, changed_generation, loadbalancer_id, id, pool_id, address, protocol_port, weight, backup, vnic_type)
VALUES ('p', '2026-10-09 08:53:20.123456', 'one', 1, '[]', 'PENDING_UPDATE', 'ONLINE', 3, '11111111-0000-4000-8000-000000000001', '44444444-0000-4000-8000-000000000001', '22222222-0000-4000-8000-000000000001', '198.18.1.20', 8080, 1, 0, 'normal');
