"""[controller_worker]: which cloud amphorae live in, and how they are made."""

from __future__ import annotations

from oslo_config import cfg

GROUP = "controller_worker"

AMPHORA_NOOP = "amphora_noop_driver"

OPTIONS = [
    cfg.StrOpt(
        "amphora_driver",
        default="amphora_haproxy_rest_driver",
        choices=[
            ("amphora_haproxy_rest_driver", "The agent in the amphora, over mutual TLS."),
            (
                AMPHORA_NOOP,
                "Nothing at all, at once: no agent, no heartbeats; certificates by an authority of the moment.",
            ),
        ],
        help="How an amphora is told what to do.",
    ),
    cfg.StrOpt(
        "compute_driver",
        default="compute_nova_driver",
        choices=[
            ("compute_nova_driver", "Nova servers."),
            ("compute_noop_driver", "Nothing at all, at once: for tests of the API and of the control plane."),
            ("compute_local_driver", "Sandboxes of Linux namespaces on this machine."),
        ],
        help="What an amphora is.",
    ),
    cfg.StrOpt(
        "network_driver",
        default="allowed_address_pairs_driver",
        choices=[
            ("allowed_address_pairs_driver", "Neutron; the VIP is an allowed address pair."),
            ("network_noop_driver", "Nothing at all, at once."),
            ("network_local_driver", "Bridges and veth pairs on this machine."),
        ],
        help="Where networks, subnets and ports come from.",
    ),
    cfg.StrOpt(
        "image_driver",
        default="image_glance_driver",
        choices=[
            ("image_glance_driver", "Glance."),
            ("image_noop_driver", "No images."),
            ("image_local_driver", "No images: a local amphora shares this machine's programs."),
        ],
        help="Where the image of an amphora comes from.",
    ),
    cfg.StrOpt(
        "volume_driver",
        default="volume_noop_driver",
        choices=[
            ("volume_noop_driver", "No volumes: an amphora has the disk that its flavor gives."),
            ("volume_cinder_driver", "A volume made from the image, see [cinder]. Untried: no test has a Cinder."),
        ],
        help="Where the disk of an amphora comes from.",
    ),
    cfg.StrOpt(
        "distributor_driver",
        default="distributor_noop_driver",
        choices=[("distributor_noop_driver", "None.")],
        help="What spreads traffic over several active amphorae.",
    ),
    cfg.StrOpt(
        "loadbalancer_topology",
        default="SINGLE",
        mutable=True,
        choices=[
            ("SINGLE", "One amphora; it is replaced when it fails."),
            ("ACTIVE_STANDBY", "Two amphorae; the second takes over the VIP at once."),
        ],
        help="Topology of new load balancers.",
    ),
    cfg.StrOpt(
        "client_ca",
        default="/etc/octavia/certs/ca_01.pem",
        help="File with the certificate (PEM) of the authority that signs controller certificates: an amphora obeys "
        "only those.",
    ),
    cfg.StrOpt("amp_image_tag", help="Tag of the image that amphorae boot from; the newest one with it is taken."),
    cfg.StrOpt("amp_image_owner_id", help="Project that must own the image; unset: any."),
    cfg.StrOpt("amp_flavor_id", help="Flavor of amphorae."),
    cfg.ListOpt(
        "amp_boot_network_list",
        default=[],
        help="Networks that an amphora boots on. The first is the management network.",
    ),
    cfg.ListOpt("amp_secgroup_list", default=[], help="Security groups of an amphora's management port."),
    cfg.StrOpt("amp_ssh_key_name", help="Key pair of Nova's that may log in to amphorae; unset: none."),
    cfg.IntOpt(
        "amp_active_retries",
        default=30,
        min=1,
        help="How often a server that boots is looked at before it is given up.",
    ),
    cfg.IntOpt("amp_active_wait_sec", default=10, min=1, help="Seconds between two such looks."),
    cfg.BoolOpt(
        "event_notifications",
        default=True,
        help="Notify of load balancers created, updated and deleted; see [oslo_messaging_notifications].",
    ),
]


def boots_with(conf: cfg.ConfigOpts) -> dict[str, str | None]:
    """What the amphorae of a load balancer that is accepted now boot with, beside its topology: columns of its row."""
    return {
        "compute_flavor": conf.controller_worker.amp_flavor_id,
        "compute_zone": conf.nova.availability_zone,
        "image_tag": conf.controller_worker.amp_image_tag,
    }
