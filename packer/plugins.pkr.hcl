# Read by a current Packer. The rehearsal's (1.6.6) has these plugins built in and does not know this block,
# so it lies in a file of its own.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "= 1.3.9"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "= 1.1.3"
    }
  }
}
