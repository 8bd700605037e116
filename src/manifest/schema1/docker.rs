//! The image configs of old as Docker's daemon reads them, and as it writes them anew.
//!
//! Every history entry is read into these types, so that what Docker refuses is refused here. A config of Docker before
//! 1.8.3, or of no version, Docker does not pass through but writes anew from them: unknown fields go, missing ones come,
//! and the fields stand in the order of the types.
//!
//! The types are those of Docker's daemon (`image.V1Image`, `container.Config`). Whatever was added to them after 1.8.3 is
//! left out when empty, so that every version of Docker writes the same bytes for the images of that time.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::document::Fault;
use super::go::{self, Fields, Names, Read as _, Time, Words};

/// The first version of Docker whose configs are passed through.
const PASSED_THROUGH_FROM: &str = "1.8.3";

/// Whether the config of an image that was made by this version of Docker is written anew.
pub(super) fn is_rewritten(docker_version: &str) -> bool {
    go::is_version_below(docker_version, PASSED_THROUGH_FROM)
}

/// An image config of old. It is written without the IDs and the size, which no config of today has.
#[derive(Debug, Default, Serialize)]
pub(super) struct Image {
    #[serde(skip)]
    pub(super) id: String,
    #[serde(skip)]
    pub(super) parent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) comment: String,
    pub(super) created: Time,
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
    pub(super) container_config: Config,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) docker_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    #[serde(skip_serializing_if = "String::is_empty")]
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    os: String,
    #[serde(skip)]
    size: i64,
    /// Whether the step left no layer. Docker reads it apart from the rest, and no config has it.
    #[serde(skip)]
    pub(super) throwaway: bool,
}

impl Fields for Image {
    fn field(&mut self, key: &str, value: &RawValue) -> Result<(), Fault> {
        match key {
            "id" => self.id.read(value),
            "parent" => self.parent.read(value),
            "size" => self.size.read(value),
            "throwaway" => self.throwaway.read(value),
            "comment" => self.comment.read(value),
            "created" => self.created.read(value),
            "container" => self.container.read(value),
            "container_config" => self.container_config.read(value),
            "docker_version" => self.docker_version.read(value),
            "author" => self.author.read(value),
            "config" => go::read_pointer(&mut self.config, value),
            "architecture" => self.architecture.read(value),
            "variant" => self.variant.read(value),
            "os" => self.os.read(value),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(clippy::struct_excessive_bools, reason = "they are the fields of Docker's type")]
pub(super) struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    #[serde(skip_serializing_if = "Names::is_empty")]
    exposed_ports: Names,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Option<Vec<String>>,
    pub(super) cmd: Words,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "is_false")]
    args_escaped: bool,
    image: String,
    volumes: Names,
    working_dir: String,
    entrypoint: Words,
    #[serde(skip_serializing_if = "is_false")]
    network_disabled: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    mac_address: String,
    on_build: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Words::is_empty")]
    shell: Words,
}

impl Fields for Config {
    fn field(&mut self, key: &str, value: &RawValue) -> Result<(), Fault> {
        match key {
            "hostname" => self.hostname.read(value),
            "domainname" => self.domainname.read(value),
            "user" => self.user.read(value),
            "attachstdin" => self.attach_stdin.read(value),
            "attachstdout" => self.attach_stdout.read(value),
            "attachstderr" => self.attach_stderr.read(value),
            "exposedports" => self.exposed_ports.read(value),
            "tty" => self.tty.read(value),
            "openstdin" => self.open_stdin.read(value),
            "stdinonce" => self.stdin_once.read(value),
            "env" => self.env.read(value),
            "cmd" => self.cmd.read(value),
            "healthcheck" => go::read_pointer(&mut self.healthcheck, value),
            "argsescaped" => self.args_escaped.read(value),
            "image" => self.image.read(value),
            "volumes" => self.volumes.read(value),
            "workingdir" => self.working_dir.read(value),
            "entrypoint" => self.entrypoint.read(value),
            "networkdisabled" => self.network_disabled.read(value),
            "macaddress" => self.mac_address.read(value),
            "onbuild" => self.on_build.read(value),
            "labels" => self.labels.read(value),
            "stopsignal" => self.stop_signal.read(value),
            "stoptimeout" => self.stop_timeout.read(value),
            "shell" => self.shell.read(value),
            _ => Ok(()),
        }
    }
}

/// Times are in nanoseconds.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(skip_serializing_if = "is_nothing")]
    test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    retries: i64,
}

impl Fields for Healthcheck {
    fn field(&mut self, key: &str, value: &RawValue) -> Result<(), Fault> {
        match key {
            "test" => self.test.read(value),
            "interval" => self.interval.read(value),
            "timeout" => self.timeout.read(value),
            "startperiod" => self.start_period.read(value),
            "startinterval" => self.start_interval.read(value),
            "retries" => self.retries.read(value),
            _ => Ok(()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(clippy::ref_option, reason = "serde hands out references")]
fn is_nothing(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}
