//! `saescope kernel install`: writes the kernelspec with which Jupyter finds this program
//! (<https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs>).

use crate::error::{Error, Result};
use clap::Args;
use jupyter_protocol::JupyterKernelspec;
use std::path::{Path, PathBuf};

/// The flags of `saescope kernel install`.
#[derive(Args)]
pub(super) struct InstallArguments {
    /// Install for this user (the default)
    #[arg(long, conflicts_with_all = ["sys_prefix", "prefix"])]
    user: bool,
    /// Install into the active Python environment (venv or conda)
    #[arg(long, conflicts_with = "prefix")]
    sys_prefix: bool,
    /// Install into share/jupyter/kernels of this folder
    #[arg(long, value_name = "FOLDER")]
    prefix: Option<PathBuf>,
    /// The kernel's name in Jupyter
    #[arg(long, default_value = "saescope")]
    name: String,
}

impl InstallArguments {
    /// Writes the kernelspec and returns a text that says where.
    pub(super) fn run(&self) -> Result<String> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || !self.name.chars().all(is_allowed) || self.name.starts_with('.') {
            let expected = "ASCII letters, digits, hyphens, dots and underscores";
            return Err(Error::invalid("`--name`", expected, format!("`{}`", self.name)));
        }
        let folder = self.data_folder()?.join("kernels").join(&self.name);
        std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let program = std::env::current_exe().map_err(Error::file("find", Path::new("saescope")))?;
        let spec = folder.join("kernel.json");
        // Jupyter finds a kernel by its kernel.json, which is therefore written last.
        for (name, bytes) in LOGOS {
            crate::files::write_atomic(&folder.join(name), bytes)?;
        }
        crate::files::write_atomic(&spec, &kernelspec(&program, &self.name)?)?;
        let (spec, program) = (spec.display(), program.display());
        Ok(format!("kernel    {spec}\nprogram   {program}\nnext      jupyter lab"))
    }

    /// Jupyter's folder for data: `share/jupyter` of a prefix, or the user's.
    fn data_folder(&self) -> Result<PathBuf> {
        let below = |prefix: &Path| prefix.join("share").join("jupyter");
        if let Some(prefix) = &self.prefix {
            return Ok(below(prefix));
        }
        if self.sys_prefix {
            let variables = ["VIRTUAL_ENV", "CONDA_PREFIX"].map(std::env::var_os);
            let prefix = variables.into_iter().flatten().find(|prefix| !prefix.is_empty());
            let missing = || {
                let got = "neither VIRTUAL_ENV nor CONDA_PREFIX";
                Error::invalid("`--sys-prefix`", "an active Python environment", got)
                    .with_hint("activate it first, or name its folder: --prefix FOLDER")
            };
            return prefix.map(|prefix| below(Path::new(&prefix))).ok_or_else(missing);
        }
        if let Some(folder) = std::env::var_os("JUPYTER_DATA_DIR").filter(|folder| !folder.is_empty()) {
            return Ok(PathBuf::from(folder));
        }
        let folder = if cfg!(target_os = "macos") {
            dirs::home_dir().map(|home| home.join("Library").join("Jupyter"))
        } else {
            dirs::data_dir().map(|data| data.join("jupyter"))
        };
        folder.ok_or_else(|| {
            Error::invalid("the folder for kernels", "a home folder", "none")
                .with_hint("name one: --prefix FOLDER")
        })
    }
}

/// The logos for Jupyter's launcher.
const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-32x32.png", include_bytes!("../../../assets/kernel/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("../../../assets/kernel/logo-64x64.png")),
    ("logo-svg.svg", include_bytes!("../../../assets/kernel/logo-svg.svg")),
];

/// The contents of `kernel.json`.
fn kernelspec(program: &Path, name: &str) -> Result<Vec<u8>> {
    let argv = [&program.to_string_lossy(), "kernel", "start", "-f", "{connection_file}"];
    let display_name = if name == "saescope" { "saescope".to_owned() } else { format!("saescope ({name})") };
    let spec = JupyterKernelspec {
        argv: argv.iter().map(ToString::to_string).collect(),
        display_name,
        language: "rhai".to_owned(),
        metadata: None,
        interrupt_mode: Some("message".to_owned()),
        env: None,
    };
    // Jupyter expects no nulls, so empty fields are left out.
    let mut value = serde_json::to_value(spec).map_err(Error::failed("write the kernelspec as JSON"))?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    Ok(format!("{value:#}\n").into_bytes())
}
