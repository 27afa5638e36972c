locals {
  tags = {
    Name                             = var.image_name
    "classreflect:role"              = "whisper-image"
    "classreflect:git-revision"      = var.git_revision
    "classreflect:processor-version" = var.processor_version
    "classreflect:model"             = var.model
    "classreflect:model-sha256"      = var.model_sha256
  }
}

build {
  sources = ["source.amazon-ebs.appliance"]

  # First boot: cloud-init, and the upgrades that hold apt's locks.
  provisioner "shell" {
    script          = "${path.root}/wait-until-settled.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  provisioner "ansible" {
    command          = var.ansible_playbook
    playbook_file    = "${path.root}/../ansible/appliance.yml"
    use_proxy        = false
    user             = var.ssh_username
    extra_arguments  = ["--extra-vars", "@${var.ansible_variables}"]
    ansible_env_vars = ["ANSIBLE_CONFIG=${path.root}/../ansible/ansible.cfg", "ANSIBLE_HOST_KEY_CHECKING=False"]
  }

  # A failing check fails the bake: no image comes of it.
  provisioner "shell-local" {
    inline = [var.verify_command]
    environment_vars = [
      "IMAGE_STAGE=baked",
      "IMAGE_USER=${build.User}",
      "IMAGE_HOST=${build.Host}",
      "IMAGE_PORT=${build.Port}",
      "IMAGE_KEY=${build.SSHPrivateKey}",
    ]
  }

  provisioner "ansible" {
    command          = var.ansible_playbook
    playbook_file    = "${path.root}/../ansible/cleanup.yml"
    use_proxy        = false
    user             = var.ssh_username
    ansible_env_vars = ["ANSIBLE_CONFIG=${path.root}/../ansible/ansible.cfg", "ANSIBLE_HOST_KEY_CHECKING=False"]
  }

  provisioner "shell" {
    script          = "${path.root}/assert-clean.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
  }

  post-processor "manifest" {
    output     = var.manifest
    strip_path = true
  }
}
